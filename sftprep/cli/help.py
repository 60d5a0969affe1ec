"""How `--help` looks: commands and options under titles, nothing cut, examples that can be typed as they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

_REST = "Options"  # where an option without a section stands
_OTHER = "Other commands"
_WHOLE = 1000  # characters: more than any first sentence has

COMMANDS = {  # in the order in which they are shown
    "Build a dataset": ("demo", "build", "init"),
    "Look at it": ("inspect", "stats", "report", "diff", "verify", "template"),
    "Hand it on": ("export",),
    "On a cluster, instead of build": ("plan", "work", "commit"),
    "This machine": ("cache", "completion"),
}
BUILD = {  # options of a build, by the names of their parameters
    "What to build": ("output", "tokenizer", "config_file", "limit", "dry_run", "explain", "overwrite"),
    "Rows": ("max_length", "seq_length", "layout", "overflow"),
    "What is trained": ("mask", "train_on", "contexts", "train_end_of_turn", "keep_untrained"),
    "Chat template": ("chat_template", "template_kwargs", "date", "control_tokens", "tool_arguments", "on_unprinted"),
    "How records are read": (
        *("record_format", "messages_key", "role_map", "keep_calls_apart", "input_name", "max_record_bytes", "strict"),
        *("by", "on_error", "max_rejects"),
    ),
    "Validation, repeats, variety": (
        *("validation", "validation_input", "deduplicate", "system_prompts", "system_prompt_ratio"),
        *("drop_empty_think", "seed"),
    ),
    "Where what is found is overruled": (
        *("header", "end_of_turn", "scan_header", "scan_end", "scan_start_offset", "scan_end_offset"),
    ),
    "How it runs": ("workers", "engine", "tokenizer_engine", "trust_remote_code"),
    "What it says": ("quiet", "verbose", "as_json"),
}

INSPECT = {  # the own options of inspect; the others are those of a build
    "Which rows": ("inputs", "of", "source", "grep", "untrained", "truncated", "longest", "random", "seed", "limit"),
    "How they are shown": ("table", "only_trained", "position", "tokenizer", "force", "color", "pager", "as_json"),
}

EXAMPLES = {  # lines for a shell, by command
    "build": (
        "sftprep build chat.jsonl -o dataset -t path/to/tokenizer --max-length 2048",
        "sftprep build chats/ 'more/*.parquet' -o dataset -t org/name --validation 1% --deduplicate",
        "sftprep build chat.jsonl -t path/to/tokenizer --dry-run",
        "sftprep build --explain chat.jsonl",
        "sftprep build --config job.toml --max-length 4096",
        "zcat chat.jsonl.gz | sftprep build - -o dataset -t path/to/tokenizer",
    ),
    "init": ("sftprep init job.toml", "sftprep build --config job.toml"),
    "demo": ("sftprep demo",),
    "inspect": (
        "sftprep inspect dataset 17 20-29 -1",
        "sftprep inspect dataset --source chat.jsonl:17 --table",
        "sftprep inspect dataset 17 --at 250",
        "sftprep inspect dataset --grep 'as an AI' --limit 5 -t path/to/tokenizer",
        "sftprep inspect --input chat.jsonl -t path/to/tokenizer 17",
    ),
    "stats": ("sftprep stats dataset", "sftprep stats dataset --json"),
    "report": ("sftprep report dataset -o report.html", "sftprep report dataset --no-text"),
    "diff": (
        "sftprep diff dataset other-dataset",
        "sftprep diff dataset --against hf --limit 1000",
        "sftprep diff dataset --against minimind",
    ),
    "verify": ("sftprep verify dataset", "sftprep verify dataset --source chat.jsonl -t path/to/tokenizer"),
    "template": (
        "sftprep template -t path/to/tokenizer",
        "sftprep template -t path/to/tokenizer --chat-template mine.jinja --template-kwarg enable_thinking=false",
    ),
    "export": ("sftprep export dataset --to trl -o dataset-trl",),
    "plan": (
        "sftprep plan chats/ -o dataset -t path/to/tokenizer",
        "sftprep work dataset --task 0    # once for each split, on any machine",
        "sftprep commit dataset",
    ),
    "work": ('sftprep work dataset --task "$SLURM_ARRAY_TASK_ID"', "sftprep work dataset --task 3 --task 4"),
    "commit": ("sftprep commit dataset",),
    "cache": ("sftprep cache", "sftprep cache clear"),
    "completion": (
        'eval "$(sftprep completion bash)"                                  # in ~/.bashrc',
        'eval "$(sftprep completion zsh)"                                   # in ~/.zshrc, behind compinit',
        "sftprep completion fish > ~/.config/fish/completions/sftprep.fish  # once",
    ),
}

Sections = Mapping[str, Sequence[str]]
Row = tuple[str, str]  # what is typed, and what it means
_OPTIONS: Mapping[str, Sections] = {"build": BUILD, "plan": BUILD, "inspect": INSPECT}  # sections, by command
_RESTS = {"inspect": "With --input, of the build that would be"}  # the title of all others


class Command(click.Command):
    """A command whose help has examples, and its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples first: what comes next is long."""
        if examples := EXAMPLES.get(str(self.name)):
            with formatter.section("Examples"):
                for line in examples:  # as they are: a line that is wrapped cannot be typed
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        _write(formatter, options_of(self, ctx))


class Group(click.Group):
    """A group of such commands, in sections, too."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """With the whole first sentence of each."""
        commands = {name: self.commands[name] for name in self.list_commands(ctx)}
        shown = {name: (name, each.get_short_help_str(_WHOLE)) for name, each in commands.items()}
        _write(formatter, _under(COMMANDS, shown, _OTHER))


def options_of(command: click.Command, ctx: click.Context) -> dict[str, list[Row]]:
    """The options of a command with what they mean, by the title that they stand under."""
    options = [each for each in command.get_params(ctx) if isinstance(each, click.Option)]
    shown = {str(each.name): each.get_help_record(ctx) for each in options}
    return _under(
        _OPTIONS.get(str(command.name), {}),
        {name: row for name, row in shown.items() if row},
        _RESTS.get(str(command.name), _REST),
    )


def _under(sections: Sections, shown: Mapping[str, Row], rest: str) -> dict[str, list[Row]]:
    """What is shown, under each title that has something. rest: the title of what no section names."""
    named = {name for names in sections.values() for name in names}
    under = {**sections, rest: [name for name in shown if name not in named]}
    rows = {title: [shown[name] for name in names if name in shown] for title, names in under.items()}
    return {title: found for title, found in rows.items() if found}


def _write(formatter: click.HelpFormatter, sections: Mapping[str, list[Row]]) -> None:
    """In two columns."""
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl(rows)

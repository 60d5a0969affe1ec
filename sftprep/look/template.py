"""What a chat template trains, in colour: its text over a dozen conversations, and what to beware of."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sftprep.config import BuildConfig
from sftprep.look.rows import BRACKETS, HEADER_STYLE, PROMPT_STYLES, TRAINED_STYLES
from sftprep.previews.examine_template import Examined, TemplateReport, examine_template
from sftprep.tokens.resolve import Resolving
from sftprep.visible import visible


def show_template(
    config: BuildConfig, color: bool | None, *, as_json: bool, resolving: Resolving | None = None
) -> None:
    """Print what is found out about the template of a build. `color` None: only on a terminal. resolving: its tokenizer, if it
    was asked about already. Raises as `examine_template`."""
    report = examine_template(config, resolving)
    console = Console(force_terminal=color, no_color=color is False or None, highlight=False)
    if as_json:
        console.file.write(json.dumps(asdict(report)) + "\n")
        return
    brackets = console.color_system is None or console.no_color
    for each in report.conversations:
        console.print(_conversation(each, brackets=brackets), soft_wrap=True)
    console.print(_facts(report))
    for advice in report.advice:
        console.print(Text.assemble(("! ", "bold yellow"), advice.what, (f"  {advice.option}", "bold")), soft_wrap=True)


def _conversation(examined: Examined, *, brackets: bool) -> Text:
    """Its name, and its text: trained stretches bright, the rest dim."""
    text = Text(f"── {examined.name} ──\n", HEADER_STYLE)
    if examined.refused is not None:
        return text.append(f"refused: {visible(examined.refused)}\n", "yellow")
    at = 0
    for start, stop in examined.trained:
        text.append(_lines(examined.text[at:start]), PROMPT_STYLES[0])
        trained = _lines(examined.text[start:stop])
        text.append(f"{BRACKETS[0]}{trained}{BRACKETS[1]}" if brackets else trained, TRAINED_STYLES[0])
        at = stop
    text.append(_lines(examined.text[at:]), PROMPT_STYLES[0])
    return text if text.plain.endswith("\n") else text.append("\n")


def _lines(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))


def _of(report: TemplateReport, name: str, adapted: str, as_is: str) -> str:
    """How the template takes what a conversation asks for."""
    examined = next(each for each in report.conversations if each.name == name)
    if examined.refused is not None:
        return "refused"
    return ", ".join([adapted if examined.adapted else as_is, *(f"without {each}" for each in examined.left_out)])


def _facts(report: TemplateReport) -> Table:
    taken = [each for each in report.conversations if each.refused is None]
    costs = [each.seconds * 1e6 for each in taken] or [0.0]
    replayed = sum(each.replayed for each in taken)
    table = Table.grid(padding=(0, 2))
    for name, value in {
        "control tokens": " ".join(report.control_tokens),
        "ends of answers": " ".join(report.ends) or "none",
        "earlier turns": "rewritten" if any(each.other_context for each in taken) else "as they were",
        "content in parts": _of(report, "content in parts", "joined to a text", "as it is"),
        "tools": _of(report, "a call of a tool", "with something changed", "as they are"),
        "takes": f"{len(taken)} of {len(report.conversations)} kinds of conversation",
        "runs without Jinja": f"{replayed} of {len(taken)}; {min(costs):,.0f} to {max(costs):,.0f} µs a conversation",
    }.items():
        table.add_row(Text(name, "dim"), Text(visible(value)))
    return table

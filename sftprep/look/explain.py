"""How records are read, in colour: form, roles, what is trained and what is ignored, for the first record of each kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sftprep.config import BuildConfig
from sftprep.look.rows import HEADER_STYLE
from sftprep.previews.explain import ExplainedMessage, Explanation, KindOfRecord, explain
from sftprep.unread import MOST_CHARACTERS
from sftprep.visible import visible

_MOST_MESSAGES, _MOST_NAMES = 12, 20


def show_explanation(config: BuildConfig, *, as_json: bool) -> bool:
    """Print how the first records of the inputs are read; True if any is. Raises as `explain`."""
    found, console = explain(config), Console(highlight=False)
    if as_json:
        console.file.write(json.dumps(asdict(found)) + "\n")
        return bool(found.read)
    for kind in found.kinds:
        more = f", and {kind.count - 1:,} more like it" if kind.count > 1 else ""
        console.print(Text(f"── {visible(kind.first)}{more} ──", HEADER_STYLE))
        if kind.fault is None:
            console.print(_facts(kind))
        else:
            console.print(Text(f"not read: {visible(kind.fault)}", "yellow"), soft_wrap=True)
            if kind.keys:
                console.print(Text(f"it has {visible(_few(kind.keys))}", "dim"), soft_wrap=True)
    console.print(_closing(found))
    return bool(found.read)


def _facts(kind: KindOfRecord) -> Table:
    table = Table.grid(padding=(0, 2))

    def add(name: str, value: str) -> None:
        if value:
            table.add_row(Text(name, "dim"), Text(visible(value)))

    roles = {each.spelled: each.role for each in kind.messages if each.spelled != each.role}
    add("form", kind.form)
    add("roles", ", ".join(f"{spelled} → {role}" for spelled, role in roles.items()))
    add("system prompt", f"from {kind.system_from}" if kind.system_from else "")
    add("tools", f"{kind.tools:,}, from {' and '.join(kind.tools_from)}" if kind.tools else "")
    for number, message in enumerate(kind.messages[:_MOST_MESSAGES]):
        table.add_row(Text("messages" if not number else "", "dim"), _line(message))
    more = len(kind.messages) - _MOST_MESSAGES
    add("", f"and {more:,} more" if more > 0 else "")
    add("ignored", _few(kind.ignored))
    add("passed on", _few(kind.passed_on))
    return table


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(name[:MOST_CHARACTERS] for name in names[:_MOST_NAMES]) + more


def _line(message: ExplainedMessage) -> Text:
    what = f"{message.role}, {message.characters:,} character{'s' * (message.characters != 1)}"
    if message.calls:
        what += f", {message.calls:,} call{'s' * (message.calls != 1)}"
    trained = "trained" if message.weight else "not trained"
    if message.weight not in (0, 1):
        trained += f" with weight {message.weight:g}"
    return Text.assemble(
        (what, "" if message.weight else "dim"),
        "  ",
        (trained, "green" if message.weight else "dim"),
        (f" ({visible(message.why)})", "dim"),
    )


def _closing(found: Explanation) -> Text:
    text = Text.assemble((f"{found.read:,}", "green"), f" of the first {found.records:,} records are read")
    if found.read < found.records:
        text.append(f", {found.records - found.read:,} are not", "yellow")
    if found.further_kinds:
        text.append(f"; {found.further_kinds:,} more kinds are not shown")
    return text

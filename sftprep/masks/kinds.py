"""The kinds of mask: what each needs of the template, and which options are its own. A new kind is a line here.

Light, since the command line names them: what finds a mask is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, cast

# Options of the build, the tokenizer's special tokens, what gives a small Rendering, text -> ids; the ScanRule.
RuleOf = Callable[[Mapping[str, Any], Mapping[str, str], Callable[[], Any], Callable[[str], Sequence[int]]], Any]


@dataclass(frozen=True, slots=True)
class MaskKind:
    """A way to say which tokens are trained.

    spans: what the template has to tell of a message: its turn, its `{% generation %}` blocks, or nothing.
    options: of the build, that belong to it; set, they are refused for kinds that do not name them.
    rule: where ids alone decide, what to look for in them; such a rule scans whole rows, so it may train padding.
    """

    spans: Literal["turns", "blocks", "none"]
    options: frozenset[str] = frozenset()
    rule: str | None = None  # "room:function", which is a RuleOf

    def rule_of(self) -> RuleOf | None:
        """The function that says what to look for; None where ids alone do not decide."""
        if self.rule is None:
            return None
        room, _, function = self.rule.partition(":")
        return cast("RuleOf", getattr(import_module(room), function))


MASKS = {
    "turns": MaskKind("turns", frozenset({"header", "end_of_turn", "train_on", "train_end_of_turn", "contexts"})),
    "generation": MaskKind("blocks"),
    "scan": MaskKind(
        "none",
        frozenset({"scan_header", "scan_end", "scan_start_offset", "scan_end_offset", "header", "end_of_turn"}),
        "sftprep.masks.scan:rule_of_options",
    ),
    "minimind": MaskKind("none", rule="sftprep.masks.scan:rule_of_preset"),
    "minimind-v5": MaskKind("none", rule="sftprep.masks.scan:rule_of_preset"),
}

"""Long output in a pager, where there is a terminal; colours where they help; a legend, once."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain

import click
from rich.console import Console
from rich.text import Text

from sftprep.visible import visible

_LESS = "-FRX"  # as git has it: leave at once what fits on the screen, colours, and do not clear it at the end


class Screen:
    """Standard output. color: None: colours only on a terminal. pager: whether one is wanted.

    plain: whether there are no colours.
    """

    def __init__(self, color: bool | None = None, *, pager: bool = True) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode is no reason to stop
        self._console = Console(force_terminal=color, no_color=color is False or None, highlight=False)
        self.plain = self._console.color_system is None or self._console.no_color
        self._is_watched = sys.stdout.isatty()
        self._pager = pager and self._is_watched

    def show(self, texts: Iterable[Text], legend: Text | None = None, *, always: bool = False) -> int:
        """Print texts as they come, and a legend where somebody looks on or colours were asked for, or always; how many there were.

        Nobody waits for more than is looked at: with a pager they are made as far as it reads.
        """
        count = 0

        def counted() -> Iterator[Text]:
            nonlocal count
            for text in texts:
                count += 1
                yield text
            if legend is not None and count and (always or self._is_watched or self._console.is_terminal):
                yield legend

        if self._pager:
            self._page(counted())
        else:
            for text in counted():
                self._console.print(text, soft_wrap=True)
        return count

    def _page(self, texts: Iterator[Text]) -> None:
        first = next(texts, None)
        if first is None:
            return
        os.environ.setdefault("LESS", _LESS)
        os.environ.setdefault("LESSUTFCHARDEF", "2068-2069:c")  # isolates are no binary
        click.echo_via_pager(_without_last_end(map(self._ansi, chain([first], texts))), color=not self.plain)

    def _ansi(self, text: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(text, soft_wrap=True)
        return captured.get()


def _without_last_end(texts: Iterable[str]) -> Iterator[str]:
    """Texts, without the last line's end: the pager gets one anyway."""
    held = ""
    for text in texts:
        yield held + text.removesuffix("\n")
        held = "\n" if text.endswith("\n") else ""


def note(what: str, style: str = "dim") -> None:
    """A line beside the output, on standard error."""
    Console(stderr=True).print(visible(what), style=style, markup=False, highlight=False, soft_wrap=True)

"""Rows of a dataset as coloured text: what the model reads is dim, what it is trained to write is bright.

Message text is not trusted: whatever could move the cursor, change colours or reorder a line is shown as an escape.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.text import Text

from sftprep.dataset.manifest import Manifest, ShardEntry, load_manifest
from sftprep.dataset.origins import read_origins
from sftprep.dataset.safe_open import open_array
from sftprep.errors import ConfigError, DatasetError, TokenizerError
from sftprep.layouts.kinds import layout
from sftprep.visible import is_hostile, visible

Decode = Callable[[Sequence[int]], str]
# Two shades of each, taken in turns, so that one sees where tokens end; legible on a light and on a dark ground.
PROMPT_STYLES = ("color(245)", "color(241)")
TRAINED_STYLES = ("bold color(34)", "bold color(28)")
HEADER_STYLE = "bold color(67)"
BRACKETS = ("⟦", "⟧")
FIRST_ROWS = 3
_BROKEN = "\ufffd"  # what a decoder makes of bytes that are no whole character
_LONGEST_GROUP = 16  # tokens that may share a character; four bytes at most, but a token may end in the next one's


@dataclass(frozen=True, slots=True)
class ShownConversation:
    """One conversation as it lies in the dataset."""

    row: int
    shard: str
    source: str
    line: int  # counted from 1
    truncated: bool
    ids: npt.NDArray[np.int64]  # (T,) all its ids, the first included; no pads
    trained: npt.NDArray[np.bool_]  # (T,) True where the id is a trained target; the first never is
    trained_pads: int  # targets of the row that are trained and in no conversation


def render_rows(
    dataset: Path, rows: Sequence[int], decode: Decode | None = None, *, brackets: bool = False, of: str = "train"
) -> Iterator[Text]:
    """Yield one text per conversation in `rows`, in their order: a header line and the tokens.

    `decode` turns ids into text and keeps special tokens; without it the ids themselves are shown. `brackets` marks
    trained text where there are no colours. of: the set. Raises ConfigError for a row or set that is not there, DatasetError
    for damage.
    """
    for shown in load_rows(dataset, rows, of):
        text = _header(shown)
        text.append_text(render_tokens(shown.ids.tolist(), shown.trained.tolist(), decode, brackets=brackets))
        yield text if text.plain.endswith("\n") else text.append("\n")


def render_tokens(
    ids: Sequence[int], trained: Sequence[bool], decode: Decode | None = None, *, brackets: bool = False
) -> Text:
    """Colour (T,) ids by (T,) `trained`. Tokens that share a character are one, trained if the first of them is."""
    text = Text()
    inside = False
    for number, (start, piece) in enumerate(_pieces(ids, decode)):
        if brackets and trained[start] != inside:
            inside = not inside
            text.append(BRACKETS[0] if inside else BRACKETS[1])
        style = (TRAINED_STYLES if trained[start] else PROMPT_STYLES)[number % 2]
        _append_visibly(text, piece, style)
    return text.append(BRACKETS[1]) if inside else text


def load_rows(dataset: Path, rows: Sequence[int], of: str = "train") -> Iterator[ShownConversation]:
    """Yield the conversations in `rows`, counted over all shards of a set from 0. Raises as `render_rows` does."""
    manifest = load_manifest(dataset)
    shards = manifest.shards_of(of, dataset)
    ends = np.cumsum([shard.rows for shard in shards])
    _check_rows(dataset, sum(shard.rows for shard in shards), rows)
    opened: tuple[int, _Shard] | None = None
    for row in rows:
        index = int(np.searchsorted(ends, row, side="right"))
        if opened is None or opened[0] != index:
            opened = index, _Shard(dataset, manifest, shards[index])
        first = int(ends[index]) - shards[index].rows
        yield from opened[1].conversations(row - first, row)


def _check_rows(dataset: Path, total: int, rows: Sequence[int]) -> None:
    for row in rows:
        if not 0 <= row < total:
            holds = f"has rows 0 to {total - 1}" if total else "holds no rows"
            raise ConfigError(f"row {row}: {dataset} {holds}")


def show_rows(
    folder: Path,
    rows: Sequence[int],
    tokenizer: str | None,
    color: bool | None,
    *,
    force: bool = False,
    of: str = "train",
) -> None:
    """Print rows, the first few unless some are named, to standard output. `color` None: only on a terminal.

    `tokenizer` is a folder or hub name; one that did not build the dataset is used, with a warning, only by `force`. of: the set.
    Raises TokenizerError where it cannot be loaded or is another one, and what `render_rows` raises.
    """
    manifest = load_manifest(folder)
    total = sum(shard.rows for shard in manifest.shards_of(of, folder))
    _check_rows(folder, total, rows)
    decode = None if tokenizer is None else _decoder(tokenizer, str(manifest.tokenizer.get("sha256")), force=force)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode is no reason to stop
    console = Console(force_terminal=color, no_color=color is False or None)
    plain = console.color_system is None or console.no_color
    for text in render_rows(folder, rows or range(min(FIRST_ROWS, total)), decode, brackets=plain, of=of):
        console.print(text, soft_wrap=True)


def _decoder(name: str, expected_sha256: str, *, force: bool) -> Decode:
    from tokenizers import Tokenizer

    from sftprep.tokens.resolve import resolve_tokenizer

    resolved = resolve_tokenizer(name)
    if resolved.sha256 != expected_sha256:
        other = f"{name} is not the tokenizer that the dataset was built with"
        if not force:
            raise TokenizerError(
                f"{other}: its sha256 differs from the manifest's; with --force it is used all the same"
            )
        warning = visible(f"{other}: the text below may be wrong")
        Console(stderr=True).print(warning, style="yellow", markup=False, highlight=False, soft_wrap=True)
    decode: Decode = partial(Tokenizer.from_str(resolved.backend).decode, skip_special_tokens=False)
    return decode


class _Shard:
    """One shard's arrays, mapped, and its provenance."""

    def __init__(self, dataset: Path, manifest: Manifest, entry: ShardEntry) -> None:
        self._name = entry.name
        self._x, self._y, self._mask, segments = (
            open_array(dataset / name, manifest.files[name].bytes, form.shape, form.dtypes)
            for name, form in manifest.arrays(entry).items()
        )
        self._segments = np.asarray(segments)
        if any(
            wrong.any() for wrong in layout(manifest.layout).wrong_segments(self._segments, manifest.width).values()
        ):
            raise DatasetError(f"{dataset / entry.name}.segments.npy: segments that lie outside the rows")
        path = dataset / entry.provenance
        self._origins = read_origins(path, manifest.files[path.name].bytes, len(segments))

    def conversations(self, row: int, shown_row: int) -> Iterator[ShownConversation]:
        """Yield what lies in the shard's row `row`."""
        first, last = np.searchsorted(self._segments[:, 0], [row, row + 1])
        mask = self._mask[row] > 0
        pads = np.ones_like(mask)
        for _, start, length in self._segments[first:last].tolist():
            pads[start : start + length] = False
        for segment in range(int(first), int(last)):
            _, start, length = self._segments[segment].tolist()
            targets = slice(start, start + length)
            yield ShownConversation(
                row=shown_row,
                shard=self._name,
                source=self._origins["source"][segment],
                line=int(self._origins["line"][segment]),
                truncated=bool(self._origins["truncated"][segment]),
                ids=np.concatenate([self._x[row, start : start + 1], self._y[row, targets]]).astype(np.int64),
                trained=np.concatenate([[False], mask[targets]]),
                trained_pads=int((mask & pads).sum()),
            )


def _header(shown: ShownConversation) -> Text:
    trained, tokens = int(shown.trained.sum()), len(shown.ids)
    parts = [
        f"row {shown.row}",
        shown.shard,
        f"{shown.source}:{shown.line}",
        f"{tokens} tokens" + (" (truncated)" if shown.truncated else ""),
        f"{trained} trained ({trained / tokens:.0%})",
    ]
    if shown.trained_pads:
        parts.append(f"and {shown.trained_pads} pads")
    return Text().append(f"{visible(' · '.join(parts))}\n", HEADER_STYLE)


def _pieces(ids: Sequence[int], decode: Decode | None) -> Iterator[tuple[int, str]]:
    """Yield (position of its first token, text) for each smallest group of tokens that is whole characters.

    A group grows while it decodes to a broken character and the next token is broken by itself, too. A decoder that
    drops white space at the start of a text is asked with the group before as context.
    """
    if decode is None:
        yield from ((position, f"{token} ") for position, token in enumerate(ids))
        return
    before: Sequence[int] = []
    start = 0
    while start < len(ids):
        stop = start + 1
        limit = min(len(ids), start + _LONGEST_GROUP)
        while stop < limit and _BROKEN in decode(ids[start:stop]) and _BROKEN in decode(ids[stop : stop + 1]):
            stop += 1
        group = ids[start:stop]
        context, both = decode(before), decode([*before, *group])
        text = both[len(context) :] if both.startswith(context) else decode(group)
        yield start, text or "".join(f"[{token}]" for token in group)
        before, start = group, stop


def _append_visibly(text: Text, piece: str, style: str) -> None:
    """Append `piece` so that it cannot harm a terminal and its white space is seen: escapes reversed, newlines marked."""
    if piece.isspace():
        piece = piece.replace(" ", "·")
    for hostile, run in groupby(piece, lambda each: each != "\n" and is_hostile(each)):
        part = "".join(run)
        if hostile:
            text.append(visible(part), f"{style} reverse")
        else:
            text.append(part.replace("\n", "↵\n"), style)

"""What text ids stand for, in pieces of whole characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sftprep.dataset.manifest import Manifest
from sftprep.errors import TokenizerError
from sftprep.stores.places import remembered_places
from sftprep.views.spelling import Spelling, in_bytes

Decode = Callable[[Sequence[int]], str]
_BROKEN = "\ufffd"  # what a decoder makes of bytes that are no whole character
_LONGEST_GROUP = 16  # tokens that may share a character; four bytes at most, but a token may end in the next one's


def open_decoder(name: str, expected_sha256: str, *, force: bool = False) -> tuple[Spelling, str | None]:
    """What turns ids into text, special tokens kept, and a warning if it is another tokenizer than expected.

    name: folder or hub name. Raises TokenizerError where it cannot be loaded, or is another one and not forced.
    """
    from sftprep.tokens.resolve import resolve_tokenizer

    resolved, warning = resolve_tokenizer(name), None
    if resolved.sha256 != expected_sha256:
        other = f"{name} is not the tokenizer that the dataset was built with"
        if not force:
            raise TokenizerError(
                f"{other}: its sha256 differs from the manifest's; with --force it is used all the same"
            )
        warning = f"{other}: the text below may be wrong"
    return Spelling(resolved), warning


def find_decoder(manifest: Manifest) -> tuple[Spelling | None, str | None]:
    """The tokenizer that a dataset was built with, where it is remembered to lie in a folder of this machine and is still the
    same; else none, and a word on it."""
    from sftprep.tokens.resolve import resolve_tokenizer

    place = remembered_places(manifest.fingerprint).get("tokenizer")
    if place is None:
        return None, "token ids only: where the tokenizer lies is not known on this machine; -t NAME shows the text"
    if not Path(place).is_dir():
        gone = Path(place).is_absolute()
        said = f"{place} is not there any more; -t NAME" if gone else f"the tokenizer is {place} of the hub; -t {place}"
        return None, f"token ids only: {said} shows the text"
    try:
        resolved = resolve_tokenizer(place)
    except TokenizerError as error:
        return None, f"token ids only: {error}; -t NAME shows the text"
    if resolved.sha256 != manifest.tokenizer.get("sha256"):
        return None, f"token ids only: {place} is not the tokenizer any more that was used; -t NAME shows the text"
    return Spelling(resolved), None


def pieces(ids: Sequence[int], decode: Decode | None) -> Iterator[tuple[int, str]]:
    """Yield (position of its first token, text) for each smallest group of tokens that is whole characters.

    A group grows while it decodes to a broken character and the next token is broken by itself, too. A decoder that
    drops white space at the start of a text is asked with the group before as context. Bytes that are no whole character are in
    digits, where the decoder knows them: ⟨e2 98⟩. Without a decoder the ids are the text.
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
        if _BROKEN in text and isinstance(decode, Spelling):
            data = [decode.bytes_of(token) for token in group]
            text = text if None in data else in_bytes(b"".join(filter(None, data)))
        yield start, text or "".join(f"[{token}]" for token in group)
        before, start = group, stop


def spelled(ids: Sequence[int], decode: Decode) -> list[tuple[str, bytes | None]]:
    """(T,) text of each of (T,) ids. Of tokens that share a character the first has it, and each its own bytes; b"" where these
    are not known."""
    starts, texts = zip(*pieces(ids, decode), strict=True) if ids else ((), ())
    found: list[tuple[str, bytes | None]] = []
    for start, stop, text in zip(starts, [*starts[1:], len(ids)], texts, strict=True):
        if stop == start + 1:
            found.append((text, None))
            continue
        spell = decode.bytes_of if isinstance(decode, Spelling) else lambda _: None
        found += [("" if at else text, spell(token) or b"") for at, token in enumerate(ids[start:stop])]
    return found

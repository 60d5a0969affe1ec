"""What MiniMind's loop would train, beside its loop over tokens in plain Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_builds import CONVERSATIONS, TOKENIZER, build, load, write

from sftprep.compare.findings import Comparison
from sftprep.compare.kinds import Request, compare_against
from sftprep.compare.minimind_way import KINDS, _kinds
from sftprep.errors import ConfigError

LENGTH = 64


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's, with the BOS and EOS tokens that MiniMind's has."""
    folder = tmp_path_factory.mktemp("minimind") / "tokenizer"
    shutil.copytree(TOKENIZER, folder)
    stated = json.loads((folder / "tokenizer_config.json").read_text())
    stated |= {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    return folder


def compared(folder: Path, way: str, tokenizer: Path | None = None) -> Comparison:
    request = Request(folder, way, str(tokenizer) if tokenizer else None)
    return compare_against(request, lambda step, total, unit: None, lambda count: None)


def seed_loop(ids: list[int], header: list[int], end: list[int], start_offset: int, end_offset: int) -> list[bool]:
    """MiniMind's loop over padded ids."""
    mask, i = [False] * len(ids), 0
    while i < len(ids):
        if ids[i : i + len(header)] != header:
            i += 1
            continue
        k = start = i + len(header)
        while k < len(ids) and ids[k : k + len(end)] != end:
            k += 1
        for j in range(start + start_offset, min(k + len(end) + end_offset, len(ids))):
            mask[j] = True
        i = k + len(end) if k < len(ids) else len(ids)
    return mask


@pytest.mark.parametrize("way", ["minimind", "minimind-v5"])
def test_a_dataset(way: str, tokenizer: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    switched = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No", "train": False}]}
    switched["messages"] += [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    source = write(tmp_path / "a.jsonl", *CONVERSATIONS.read_bytes().splitlines()[:20], switched)
    build(tmp_path / "out", source, tokenizer=str(tokenizer), max_length=LENGTH)
    found = compared(tmp_path / "out", way)
    encode = Tokenizer.from_file(f"{tokenizer}/tokenizer.json").encode
    header, end, offsets = {
        "minimind": ("<|im_start|>assistant", "<|im_end|>", (1, 1)),
        "minimind-v5": ("<|im_start|>assistant\n", "<|im_end|>\n", (0, 0)),
    }[way]
    x, y, mask = (load(tmp_path / "out", kind) for kind in ("X", "Y", "mask"))
    rows = np.concatenate([x[:, :1], y], axis=1).tolist()
    loops = np.array([seed_loop(row, encode(header).ids, encode(end).ids, *offsets) for row in rows])[:, 1:]
    assert found.conversations == len(rows)
    assert found.equal == int((loops == mask).all(axis=1).sum())
    assert sum(kind.tokens for kind in found.kinds) == int((loops != mask).sum())
    kinds = {kind.name: kind for kind in found.kinds}
    assert kinds["apart"].examples[0].a is not None
    assert kinds["apart"].examples[0].a.place == "a.jsonl:21"
    first = kinds["behind"].examples[0]
    assert first.a is not None
    assert first.b is not None
    line_break = first.a.ids[first.a.differs.index(True)]
    assert encode("<|im_end|>\n").ids[1:] == [line_break]
    assert (first.a.trained[first.a.differs.index(True)], first.b.trained[first.a.differs.index(True)]) == (False, True)


def test_its_own_mask_is_the_same(tokenizer: Path, tmp_path: Path) -> None:
    """Pads, and conversations that are cut, among them."""
    for way in ("minimind", "minimind-v5"):
        options: dict[str, Any] = {"mask": way, "max_length": LENGTH, "keep_untrained": True}
        build(tmp_path / way, str(CONVERSATIONS), tokenizer=str(tokenizer), **options)
        found = compared(tmp_path / way, way, tokenizer)
        assert (found.differs, found.equal) == (False, found.conversations), found.kinds
        assert load(tmp_path / way, "mask").any()


def test_what_it_needs(tmp_path: Path) -> None:
    build(tmp_path / "out", str(CONVERSATIONS))
    with pytest.raises(ConfigError, match="need a bos_token"):
        compared(tmp_path / "out", "minimind")


masks = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=12)


@given(masks, st.integers(0, 12))
def test_every_token_that_differs_is_of_one_kind(both: list[tuple[bool, bool]], count: int) -> None:
    ours, theirs = (np.array([False, *each]) for each in zip(*both, strict=True))
    count = min(count + 1, len(ours))
    expected: dict[str, list[int]] = {}
    for at in range(len(ours)):
        if ours[at] == theirs[at]:
            continue
        alike = [(ours[i], theirs[i], i >= count) for i in range(len(ours))]
        first = next(i + 1 for i in range(at, -1, -1) if alike[i] != alike[at] or i == 0)
        last = next((i - 1 for i in range(at, len(ours)) if alike[i] != alike[at]), len(ours) - 1)
        own = ours if theirs[at] else theirs
        touches = own[first - 1], last + 1 == len(ours) or own[last + 1]
        if theirs[at]:
            name = "padding" if at >= count else "behind" if touches[0] else "before" if touches[1] else "apart"
        else:
            name = "partly" if any(touches) else "unfound"
        expected.setdefault(name, []).append(at)
    assert _kinds(ours, theirs, count) == {name: (places[0], len(places)) for name, places in expected.items()}
    assert expected.keys() <= KINDS.keys()

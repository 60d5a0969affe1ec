"""Masks by control tokens against masks by characters, on a toy tokenizer and on real ones."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import orjson
import pytest
from conftest import FULL
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Turn, chats_of_turns
from transformers import AutoTokenizer

from sftprep.masks.by_controls import ControlIds, GivenWeights, PlaceTable, mask_by_controls, places_in_ids
from sftprep.masks.spans import CharSpans, span_mask
from sftprep.template.turns import SpanPlaces
from sftprep.tokens.batch import TokenBatch

CORPUS_STEP = 1 if FULL else 64  # of the corpus, conversations looked at
CONTROLS = ("<s>", "<u>", "<e>")
VOCABULARY = [*CONTROLS, "hx", "\n\n", "h", "x", "y", "\n"]  # longest first; ids are places, control tokens 0, 1, 2
IS_CONTROL = np.arange(len(VOCABULARY)) < len(CONTROLS)


def encode(text: str) -> list[int]:
    return [VOCABULARY.index(piece) for piece in re.findall("|".join(VOCABULARY), text)]


def batch_of(texts: list[str]) -> TokenBatch:
    ids = [encode(text) for text in texts]
    return TokenBatch(np.array([i for row in ids for i in row], np.uint32), np.cumsum([0, *map(len, ids)]))


def written(turns: list[Turn]) -> tuple[str, SpanPlaces, list[tuple[int, int]]]:
    """Text, marks, and (start, stop) characters of each turn's span. The last turn may end with the text."""
    text, spans, controls, first, last = "", [], [], [], []
    for index, turn in enumerate(turns):
        first.append(len(controls))
        controls.append(turn.opens)
        text += turn.opens + turn.header
        start = len(text)
        text += turn.content
        last.append(len(controls))
        if turn.closes:
            controls.append("<e>")
            text += "<e>"
            spans.append((start, len(text)))
            text += turn.follows
        elif index == len(turns) - 1:
            spans.append((start, len(text)))
        else:
            spans.append((start, len(text) + len(turns[index + 1].opens)))
    message, header = tuple(range(len(turns))), tuple(turn.header for turn in turns)
    return text, SpanPlaces(tuple(controls), message, tuple(first), header, tuple(last), unplaced=False), spans


def adds_up(text: str, turns: list[Turn], weights: list[float]) -> bool:
    """No forged control token, and no trained turn's header that melts into what follows it or that the text ends with."""
    forged = any(control in turn.content for turn in turns for control in CONTROLS)
    begins = list(accumulate((len(piece) for piece in re.findall("|".join(VOCABULARY), text)), initial=0))
    starts = [start for start, stop in written(turns)[2]]
    melted = (start not in begins or start == len(text) for start in starts)
    return not forged and not any(weight for each, weight in zip(melted, weights, strict=True) if each)


def by_characters(text: str, spans: list[tuple[int, int]], weights: list[float]) -> list[float]:
    begins = accumulate((len(piece) for piece in re.findall("|".join(VOCABULARY), text)), initial=0)
    weighted = list(zip(spans, weights, strict=True))
    return [sum(w for (start, stop), w in weighted if start <= at < stop) for at in list(begins)[:-1]]


@given(st.data(), chats_of_turns(), st.booleans())
def test_equals_the_mask_by_characters(data: st.DataObject, chats: list[list[Turn]], train_end: bool) -> None:
    rendered = [written(turns) for turns in chats]
    batch = batch_of([text for text, _, _ in rendered])
    order = data.draw(st.permutations(range(len(chats))))  # entries of the table are in an order of their own
    compiled = [
        places_in_ids(rendered[b][1], np.array([turn.weight for turn in chats[b]], np.float32), encode) for b in order
    ]
    weights = [[turn.weight for turn in turns] for turns in chats]
    override = [b for b in range(len(chats)) if data.draw(st.booleans())]
    for b in override:
        weights[b] = [data.draw(st.sampled_from([0.0, 1.0, 0.25])) for _ in chats[b]]
    given_weights = np.array([weight for b in override for weight in weights[b]], np.float32)
    mask, ok = mask_by_controls(
        batch,
        ControlIds.of(IS_CONTROL),
        np.argsort(order),
        PlaceTable.of(compiled),
        GivenWeights(np.array(override, np.int64), given_weights),
        train_end_of_turn=train_end,
    )
    expected, all_weights = [], set()
    for b, (text, _, spans) in enumerate(rendered):
        assert ok[b] == adds_up(text, chats[b], weights[b])
        begun = [text[:stop].endswith(CONTROLS) and not train_end for _, stop in spans]
        ends = [
            (start, stop - len("<e>") if begin else stop) for begin, (start, stop) in zip(begun, spans, strict=True)
        ]
        expected += by_characters(text, ends, weights[b]) if ok[b] else [0] * len(encode(text))
        all_weights |= set(weights[b]) if ok[b] else set()
    assert mask.tolist() == expected
    assert mask.dtype == (np.bool_ if all_weights <= {0, 1} else np.float32)


def one_turn(**changes: object) -> SpanPlaces:
    marks = {
        "controls": ("<s>", "<e>"),
        "message": (0,),
        "first": (0,),
        "header": ("h\n",),
        "last": (1,),
        "unplaced": False,
    }
    return SpanPlaces(**{**marks, **changes})


@pytest.mark.parametrize(
    ("text", "adds_up"),
    [
        ("<s>h\ny<e>", True),
        ("<s>h\n<e>", True),  # nothing but the end token is trained
        ("<s>h\n\ny<e>", False),  # the header's line break is part of a token with the content's
        ("<s>hx<e>", False),  # another header
        ("<s>h<e>", False),  # half a header
        ("<s>h", False),  # no end
        ("", False),
        ("<u>h\ny<e>", False),  # as many control tokens, but others
        ("<s>h\ny<e><s>h\ny<e>", False),  # one turn more
        ("h\ny", False),
    ],
)
def test_what_adds_up(text: str, adds_up: bool) -> None:
    table = PlaceTable.of([places_in_ids(one_turn(), np.ones(1, np.float32), encode)])
    batch = batch_of(["<s>h\nx<e>", text, "<s>h\ny<e>"])
    mask, ok = mask_by_controls(batch, ControlIds.of(IS_CONTROL), np.zeros(3, np.int64), table)
    assert ok.tolist() == [True, adds_up, True]
    begin, end = batch.offsets[1:3]
    assert mask[:5].tolist() == mask[end:].tolist() == [False, False, False, True, True]
    assert mask[begin:end].tolist() == (
        [False] * 3 + [True] * (end - begin - 3) if adds_up else [False] * (end - begin)
    )


@pytest.mark.parametrize(
    "marks",
    [
        one_turn(first=(-1,), header=("",), last=(-1,), unplaced=True),
        one_turn(controls=("<s>", "yy")),  # not one id
        one_turn(first=(1,), last=(0,)),
        one_turn(last=(0,)),
        one_turn(header=("h\ny<e>",)),  # reaches past the turn's end
        one_turn(message=(0, 0), first=(0, 0), header=("", ""), last=(1, 1)),
    ],
)
def test_marks_that_cannot_be_placed(marks: SpanPlaces) -> None:
    table = PlaceTable.of([places_in_ids(marks, np.ones(1, np.float32), encode)])
    batch = batch_of(["<s>h\ny<e>"])
    mask, ok = mask_by_controls(batch, ControlIds.of(IS_CONTROL), np.zeros(1, np.int64), table)
    assert not ok.any()
    assert not mask.any()


@pytest.mark.parametrize(
    ("text", "trained"),
    [
        ("<s>h\ny<e>x", "y<e>x"),
        ("<s>h\n<e>", "<e>"),
        ("<s>h\n", None),  # nothing is left for the span
        ("<s>h\n\n<e>", None),
        ("<s>h\ny", None),  # a control token less
        ("<s>h\ny<e><e>", None),
    ],
)
@pytest.mark.parametrize("train_end", [True, False])
def test_a_span_that_ends_where_the_text_does(text: str, trained: str | None, train_end: bool) -> None:
    table = PlaceTable.of([places_in_ids(one_turn(last=(2,)), np.ones(1, np.float32), encode)])
    batch = batch_of([text, text])
    mask, ok = mask_by_controls(
        batch, ControlIds.of(IS_CONTROL), np.zeros(2, np.int64), table, train_end_of_turn=train_end
    )
    assert ok.tolist() == [trained is not None] * 2
    assert batch.ids[mask].tolist() == encode(trained or "") * 2


def test_a_header_that_its_control_token_swallows_is_not_placed() -> None:
    swallowing = lru_cache(lambda text: [7] if text == "<s>h\n" else encode(text))
    compiled = places_in_ids(one_turn(), np.ones(1, np.float32), swallowing)
    _, ok = mask_by_controls(
        batch_of(["<s>h\ny<e>"]), ControlIds.of(IS_CONTROL), np.array([0]), PlaceTable.of([compiled])
    )
    assert ok.tolist() == [False]


def test_a_control_token_that_is_several_ids_cannot_be_counted() -> None:
    compiled = places_in_ids(SpanPlaces(("yy",), (), (), (), (), unplaced=False), np.ones(0, np.float32), encode)
    _, ok = mask_by_controls(batch_of(["yy"]), ControlIds.of(IS_CONTROL), np.array([0]), PlaceTable.of([compiled]))
    assert ok.tolist() == [False]


def test_only_trained_spans_need_a_place() -> None:
    marks = SpanPlaces(("<s>", "<s>", "<e>"), (0, 1), (-1, 1), ("", "h\n"), (-1, 2), unplaced=True)
    batch = batch_of(["<s>hxy<s>h\nx<e>"])
    for weights, adds_up in [([0, 1], True), ([1, 1], False)]:
        table = PlaceTable.of([places_in_ids(marks, np.array(weights, np.float32), encode)])
        mask, ok = mask_by_controls(batch, ControlIds.of(IS_CONTROL), np.zeros(1, np.int64), table)
        assert ok.tolist() == [adds_up]
        assert np.flatnonzero(mask).tolist() == ([6, 7] if adds_up else [])


def test_an_empty_batch() -> None:
    table = PlaceTable.of([places_in_ids(one_turn(), np.ones(1, np.float32), encode)])
    mask, ok = mask_by_controls(batch_of([]), ControlIds.of(IS_CONTROL), np.zeros(0, np.int64), table)
    assert mask.shape == ok.shape == (0,)


def test_weights_given_for_another_number_of_spans_are_refused() -> None:
    table = PlaceTable.of([places_in_ids(one_turn(), np.ones(1, np.float32), encode)])
    given_weights = GivenWeights(np.array([0]), np.ones(2, np.float32))
    with pytest.raises(ValueError, match="2 span weights given, the conversations have 1"):
        mask_by_controls(batch_of(["<s>h\ny<e>"]), ControlIds.of(IS_CONTROL), np.array([0]), table, given_weights)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.lists(st.integers(0, 29), max_size=40))
@example([False] * 5, [0, 1, 4])
@example([True] * 5, [0, 1, 4])
@example([True, False, False, False, True], [0, 1, 2, 3, 4])  # the gap lies inside
@example([False, True, True, False], [0, 1, 2, 3])  # the gap wraps around
def test_control_ids_are_found(is_control: list[bool], ids: list[int]) -> None:
    ids = [token % len(is_control) for token in ids]
    found = ControlIds.of(np.array(is_control)).find(np.array(ids, np.uint32))
    assert found.tolist() == [at for at, token in enumerate(ids) if is_control[token]]


def turns_of(text: str, special: re.Pattern[str], opens: str, header: str) -> tuple[SpanPlaces, list[tuple[int, int]]]:
    """Marks and (start, stop) characters of the assistant turns of a text: `opens`, `header`, span, control token."""
    controls = list(special.finditer(text))
    stops = [control.end() for control in controls]
    begins = [found.start() + len(opens) for found in re.finditer(re.escape(opens + header), text)]
    first = tuple(stops.index(begin) for begin in begins)
    last = tuple(index + 1 for index in first)
    count = len(first)
    marks = SpanPlaces(tuple(c[0] for c in controls), (0,) * count, first, (header,) * count, last, unplaced=False)
    return marks, [(stops[a] + len(header), stops[b]) for a, b in zip(first, last, strict=True)]


@pytest.mark.parametrize(
    ("name", "opens", "header"),
    [
        ("minimind-3", "<|im_start|>", "assistant\n"),
        ("qwen3", "<|im_start|>", "assistant\n"),
        ("llama3_1", "<|start_header_id|>assistant<|end_header_id|>", "\n\n"),
        ("deepseek_v3", "<｜Assistant｜>", ""),
    ],
)
def test_equals_the_mask_by_characters_on_the_corpus(
    name: str, opens: str, header: str, shared_data: Path, corpus: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / name, local_files_only=True)
    structural = ("<｜User｜>", "<｜Assistant｜>")
    added = tokenizer.added_tokens_decoder.items()
    special = {token.content: i for i, token in added if token.special or token.content in structural}
    pattern = re.compile("|".join(map(re.escape, special)))
    is_control = np.zeros(len(tokenizer), bool)
    is_control[list(special.values())] = True
    remembered = lru_cache(lambda text: tokenizer(text, add_special_tokens=False).input_ids)
    lines = corpus.read_bytes().splitlines()[::CORPUS_STEP]
    agreed = 0
    for at in range(0, len(lines), 500):
        chats = [orjson.loads(line)["conversations"] for line in lines[at : at + 500]]
        texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
        encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        offsets = np.cumsum([0, *map(len, encoded.input_ids)])
        batch = TokenBatch(np.concatenate([np.array(row, np.uint32) for row in encoded.input_ids]), offsets)
        turns = [turns_of(text, pattern, opens, header) for text in texts]
        table = PlaceTable.of([places_in_ids(marks, np.ones(1, np.float32), remembered) for marks, _ in turns])
        mask, ok = mask_by_controls(batch, ControlIds.of(is_control), np.arange(len(texts)), table)

        spans = CharSpans(*np.array([(b, *span) for b, (_, spans) in enumerate(turns) for span in spans]).T)
        starts, stops = np.array([pair for row in encoded.offset_mapping for pair in row]).T
        exact, boundary_tokens = span_mask(starts, stops, offsets, spans)
        by_token = np.repeat(ok, np.diff(offsets))
        assert np.array_equal(mask, exact & by_token)
        assert not boundary_tokens[ok].any()
        agreed += int(ok.sum())
    assert agreed > 0.95 * len(lines)

"""Where things multiply, a new one is a room and a line: here one toy of each is added, and a build uses it."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import orjson
import pytest

from sftprep import BuildConfig, Manifest, build_dataset
from sftprep.containers.json_text import index_lines, read_lines
from sftprep.containers.kinds import KINDS, FileKind
from sftprep.containers.record import Range, Record, Selection
from sftprep.dataset.verify import verify_dataset
from sftprep.errors import ConfigError
from sftprep.exports.examples import Exported, OpenedRows
from sftprep.exports.export import export_dataset
from sftprep.exports.kinds import EXPORTS
from sftprep.jobs.rederive import verify_source
from sftprep.layouts import padded
from sftprep.layouts.kinds import LAYOUTS
from sftprep.layouts.types import Rows
from sftprep.look.inspect import Manner, show_position
from sftprep.masks.kinds import MASKS, MaskKind
from sftprep.masks.scan import ScanRule, scan_rule
from sftprep.records.forms import FORMS, Form
from sftprep.remaking.reasons import TRAINED
from sftprep.stores.kinds import STORES
from sftprep.stores.types import Found
from sftprep.views.choosing import Choice
from sftprep.views.conversations import load_rows
from sftprep.workers.limits import Suspect
from sftprep.workers.runners import RUNNERS
from sftprep.workers.worker import Order

TOKENIZER = str(Path(sys.modules["sftprep"].__file__ or "").parent / "sample" / "tokenizer")
TALK = [("Who?", "Me."), ("Where to?", "Out."), ("When?", "Now.")]


def messages(question: str, answer: str) -> bytes:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return orjson.dumps({"messages": said})


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "talk.jsonl").write_bytes(b"\n".join(messages(*pair) for pair in TALK))
    return str(tmp_path / "talk.jsonl")


def build(folder: Path, *sources: str, **options: Any) -> tuple[Manifest, dict[str, Any]]:
    manifest = build_dataset(BuildConfig(sources, TOKENIZER, max_length=32, **options), folder)
    assert verify_dataset(folder) == []
    return manifest, {kind: np.load(folder / f"shard-00000.{kind}.npy") for kind in ("X", "Y", "mask")}


def test_a_form(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(record: dict[str, Any]) -> tuple[list[Any], int]:
        return [{"role": "user", "content": record["q"]}, {"role": "assistant", "content": record["a"]}], 0

    monkeypatch.setitem(FORMS, "toy", Form(("q", "a"), read))
    toys = tmp_path / "toys.jsonl"
    toys.write_bytes(b"\n".join(orjson.dumps({"q": question, "a": answer}) for question, answer in TALK))
    _, expected = build(tmp_path / "expected", source)
    for name in ("auto", "toy"):
        _, found = build(tmp_path / name, str(toys), record_format=name)
        assert all(np.array_equal(found[kind], expected[kind]) for kind in expected)


def test_a_kind_of_file(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def records(path: str, place: Range, selection: Selection) -> Iterator[Record]:
        for line in read_lines(path, place, selection):
            yield line._replace(data=messages(*line.data.decode().split("\t")))

    monkeypatch.setitem(KINDS, ".tsv", lambda path, selection: FileKind(index_lines, records))
    toys = tmp_path / "toys.tsv"
    toys.write_text("\n".join("\t".join(pair) for pair in TALK))
    _, expected = build(tmp_path / "expected", source)
    manifest, found = build(tmp_path / "toy", str(toys))
    assert manifest.inputs[0].records == 3
    assert all(np.array_equal(found[kind], expected[kind]) for kind in expected)


def questions(
    options: Mapping[str, Any],
    special: Mapping[str, str],
    talk: Callable[[], Any],
    encode: Callable[[str], Sequence[int]],
) -> ScanRule:
    return scan_rule("<|im_start|>user\n", "<|im_end|>", encode)


def test_a_kind_of_mask(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MASKS, "toy", MaskKind("none", frozenset({"keep_untrained"}), f"{__name__}:questions"))
    _, answers = build(tmp_path / "answers", source)
    _, found = build(tmp_path / "toy", source, mask="toy", keep_untrained=True)
    assert np.array_equal(found["X"], answers["X"])
    assert found["mask"].any()
    assert not (found["mask"] & answers["mask"]).any()
    with pytest.raises(ConfigError, match="--keep-untrained belongs to --mask toy, not to --mask turns"):
        BuildConfig((source,), TOKENIZER, keep_untrained=True)


def test_a_layout(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last conversation first, and two in a row: `verify` asks the layout, and finds each conversation's record."""
    toy = ModuleType("toy_layout")
    vars(toy).update(
        lay_out=in_pairs,
        wrong_counts=lambda rows, segments: None if rows == (segments + 1) // 2 else "odd counts",
        by_split=False,
        shapes=padded.shapes,
        as_rows=padded.as_rows,
        rows_of=padded.rows_of,
        wrong_segments=lambda segments, shape: {"does not fit": segments[:, 1] + segments[:, 2] > shape[1]},
        wrong_entries=lambda arrays, segments, pad_id, pads_trained: iter(()),
        count_trained=lambda mask, segments: np.array([mask[r, s : s + n].sum() for r, s, n in segments]),
    )
    monkeypatch.setitem(sys.modules, "toy_layout", toy)
    monkeypatch.setitem(LAYOUTS, "toy", "toy_layout")
    _, expected = build(tmp_path / "padded", source)
    manifest, found = build(tmp_path / "toy", source, layout="toy")
    assert manifest.layout == "toy"
    segments = np.load(tmp_path / "toy" / "shard-00000.segments.npy")
    assert segments[:, :2].tolist() == [[0, 0], [0, segments[0, 2]], [1, 0]]
    for (row, start, length), whole in zip(segments, (2, 1, 0), strict=True):
        for kind in expected:
            assert np.array_equal(found[kind][row, start : start + length], expected[kind][whole, :length])
    assert verify_source(tmp_path / "toy", [source], TOKENIZER) == []
    assert export_dataset(tmp_path / "toy", "hf", tmp_path / "out").tokens == manifest.totals["tokens"]
    shown = list(load_rows(tmp_path / "toy", [0, 1]))
    lies = [(each.row, each.number, each.of, each.start, each.line) for each in shown]
    assert lies == [(0, 0, 2, 0, 3), (0, 1, 2, segments[0, 2], 2), (1, 0, 1, 0, 1)]
    first, both = segments[0, 2], segments[:2, 2].sum()
    for at in (first - 1, first, both - 1, both):
        line, rule = asked(tmp_path / "toy", 0, int(at), capsys)
        assert (line, rule == "padding") == (3 if at < first else 2, at == both)
        assert (rule in TRAINED) == found["mask"][0, at]
    vars(toy)["count_trained"] = lambda mask, segments: np.zeros(len(segments), np.int64)
    assert "segment 0: a trained count that is not the mask's" in verify_dataset(tmp_path / "toy")[0].what
    vars(toy)["wrong_segments"] = lambda segments, shape: {"is of another toy": segments[:, 0] == 1}
    assert [problem.what for problem in verify_dataset(tmp_path / "toy")] == ["segment 2 is of another toy"]
    vars(toy)["wrong_counts"] = lambda rows, segments: "no toys in it"
    assert "no toys in it" in verify_dataset(tmp_path / "toy")[0].what


def asked(folder: Path, row: int, at: int, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The line and the rule that inspect names for a position."""
    show_position(folder, Choice(rows=((row, row),)), at, (), Manner(as_json=True), "train")
    facts = orjson.loads(capsys.readouterr().out)
    assert facts["doubt"] is None
    return facts["line"], facts["rule"]


def in_pairs(*arguments: Any, **options: Any) -> Rows:
    rows = padded.lay_out(*arguments, **options)
    order, width = np.arange(len(rows.segments))[::-1], rows.x.shape[1]
    made = [np.zeros((-(-len(order) // 2), width), each.dtype) for each in (rows.x, rows.y, rows.mask)]
    segments: list[tuple[int, int, int]] = []
    for number, one in enumerate(order):
        length = int(rows.segments[one, 2])
        row, start = number // 2, segments[-1][2] if number % 2 else 0
        for array, whole in zip(made, (rows.x, rows.y, rows.mask), strict=True):
            array[row, start : start + length] = whole[one, :length]
        segments.append((row, start, length))
    x, y, mask = made
    others = {name: getattr(rows, name)[order] for name in ("conversation", "tokens", "trained", "truncated")}
    return Rows(x=x, y=y, mask=mask, segments=np.array(segments), **others)


def test_a_way_to_run_workers(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def run_tasks(open_worker: Any, tasks: Sequence[int], workers: int, report: Any, describe: Any = str) -> None:
        worker = open_worker(Suspect())
        for task in tasks:
            worker.run(Order(task), report)()
            done.append(task)

    toy = ModuleType("toy_runner")
    vars(toy).update(run_tasks=run_tasks, FORKS=False)
    monkeypatch.setitem(sys.modules, "toy_runner", toy)
    monkeypatch.setitem(RUNNERS, "toy", "toy_runner")
    _, expected = build(tmp_path / "local", source)
    _, found = build(tmp_path / "toy", source, engine="toy")
    assert done == [0]
    assert all(np.array_equal(found[kind], expected[kind]) for kind in expected)


def test_a_place_to_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs in memory, in a folder, plain and compressed, beside one that is not read."""
    lines = [messages(*pair) for pair in TALK]
    held = {
        "toy://bucket/set/a.jsonl": b"\n".join(lines[:2]),
        "toy://bucket/set/deep/b.jsonl.gz": gzip.compress(lines[2]),
        "toy://bucket/set/notes.md": b"#",
        "toy://bucket/other.jsonl": lines[0],
    }
    toy = ModuleType("toy_store")
    vars(toy).update(
        find=lambda given: Found("holds", sorted(path for path in held if path.startswith(given))),
        size=lambda path: len(held[path]),
        open_file=lambda path: io.BytesIO(held[path]),
    )
    monkeypatch.setitem(sys.modules, "toy_store", toy)
    with pytest.raises(ConfigError, match=r"inputs behind toy:// cannot be read yet"):
        BuildConfig(("toy://bucket/set/",), TOKENIZER)
    monkeypatch.setitem(STORES, "toy", "toy_store")
    for name, data in held.items():
        path = tmp_path / name.removeprefix("toy://")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    expected, arrays = build(tmp_path / "expected", str(tmp_path / "bucket/set"))
    manifest, found = build(tmp_path / "toy", "toy://bucket/set/")
    assert manifest == expected
    assert [each.name for each in manifest.inputs] == ["a.jsonl", "deep/b.jsonl.gz"]
    assert all(np.array_equal(found[kind], arrays[kind]) for kind in arrays)


def toy_export(rows: OpenedRows, folder: Path) -> Exported:
    """All ids in a text file, a line a conversation."""
    done = Exported()
    with (folder / "ids.txt").open("w") as file:
        for examples in (each for shard in rows.manifest.shards for each in rows.examples(shard)):
            for ids in np.split(examples.ids, examples.offsets[1:-1]):
                print(*ids, file=file)
            done.add(examples)
    return done


def test_an_export(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPORTS, "toy", f"{__name__}:toy_export")
    manifest, arrays = build(tmp_path / "data", source)
    done = export_dataset(tmp_path / "data", "toy", tmp_path / "out")
    assert done.tokens == manifest.totals["tokens"]
    lines = [[int(each) for each in line.split()] for line in (tmp_path / "out/ids.txt").read_text().splitlines()]
    assert len(lines) == len(TALK)
    for x, y, ids in zip(arrays["X"], arrays["Y"], lines, strict=True):
        assert ids == [x[0], *y[: len(ids) - 1]]

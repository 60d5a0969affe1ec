"""What is shown of a comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_builds import CONVERSATIONS, GOOD, TOKENIZER, build, write

from sftprep.compare.datasets import compare_datasets
from sftprep.compare.findings import Change, Comparison, Difference, Kind, Side
from sftprep.errors import TokenizerError
from sftprep.look.diff import show_comparison, show_comparison_as_json
from sftprep.watch.log import show_log


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same records, of which the last turn is trained in the second."""
    folder = tmp_path_factory.mktemp("builds")
    hostile = {"messages": [{"role": "user", "content": "Hi \x1b[2J"}, {"role": "assistant", "content": "A\x07"}] * 2}
    source = write(folder / "a.jsonl", hostile, *CONVERSATIONS.read_bytes().splitlines()[:3])
    build(folder / "a", source)
    build(folder / "b", source, train_on="last")
    return [folder / "a", folder / "b"]


def lines(
    folders: list[Path], capsys: pytest.CaptureFixture[str], color: bool | None, tokenizer: str | None = None
) -> str:
    show_comparison(compare_datasets(*folders), folders, tokenizer, color)  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_without_colours_arrows_are_around_what_differs(
    folders: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = lines(folders, capsys, None)
    words = [" ".join(line.split()) for line in out.splitlines()]
    assert words[:4] == [f"A {folders[0]}", f"B {folders[1]}", "options that differ", "A B"]
    for said in ("train_on assistant last", "totals that differ", "compared 4", "the same 0"):
        assert said in words
    assert "different 4 the same ids, another mask" in words
    assert "── the same ids, another mask · first at token" in out
    assert "A  a.jsonl:1 · train row 0" in out
    assert "⟦»A\\x07<|im_end|>«⟧" in out
    assert "\n»A\\x07<|im_end|>«" in out
    assert not {"\x1b", "\x07"} & set(out)


def test_colours(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = lines(folders, capsys, True, TOKENIZER)
    assert "\x1b[" in out
    assert "»" not in out
    assert "\x1b[2J" not in out


def test_ids_where_no_tokenizer_is_found(folders: list[Path], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_log(as_json=False)
    found = compare_datasets(folders[0], folders[1])
    show_comparison(found, folders, None, None)
    out, err = capsys.readouterr()
    assert err == "token ids only: where the tokenizer lies is not known on this machine; -t NAME shows the text\n"
    example = found.kinds[0].examples[0].a
    assert example is not None
    assert f"»{example.ids[example.differs.index(True)]} " in out


def test_a_tokenizer_of_neither(folders: list[Path], tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (Path(TOKENIZER) / name).read_text().replace("<|im_start|>", "<|im_begin|>")
        (tmp_path / name).write_text(text)
    with pytest.raises(TokenizerError, match="no dataset here was built with this tokenizer"):
        show_comparison(compare_datasets(folders[0], folders[1]), folders, str(tmp_path), None)


def test_what_is_long_or_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "a", write(tmp_path / "a.jsonl", GOOD))
    side = Side(
        "a.jsonl:1",
        "train",
        None,
        40,
        None,
        truncated=False,
        first=7,
        ids=(8, 9),
        trained=(False,) * 2,
        differs=(True, False),
    )
    kinds = [Kind("x", "an x", meant=True, count=1, tokens=5, examples=[Difference(side, None)])]
    changes = [Change(f"option{number}", None, "y" * 99) for number in range(20)]
    comparison = Comparison("a", "Transformers", changes, [], 7, 6, kinds, ["only some"])
    show_comparison(comparison, [tmp_path / "a"], TOKENIZER, None)
    words = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"option0 - {'y' * 40}…" in words
    assert "8 more --json shows all" in words
    assert "only some" in words
    assert "as promised 1 an x; 5 tokens" in words
    assert "A a.jsonl:1 · 40 tokens" in words
    show_comparison_as_json(comparison)
    stated = json.loads(capsys.readouterr().out)
    assert (stated["differs"], stated["equal"], stated["kinds"][0]["examples"][0]["a"]["ids"]) == (False, 6, [8, 9])
    assert len(stated["options"]) == 20

"""Files, folders and globs -> sources."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sftprep.containers.files import PassedOver, Source, find_sources
from sftprep.errors import InputError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.jsonl",
        "a/2.json.gz",
        "a/10.NDJSON",
        "a/README.md",
        "a/.hidden.jsonl",
        ".git/x.jsonl",
        "a-b.jsonl.xz",
    ):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"{}\n" * len(name))
    return tmp_path


def names(*inputs: str | Path) -> list[str]:
    return [source.name for source in find_sources([str(each) for each in inputs]).sources]


def test_a_folder_is_searched_in_sorted_order(tree: Path) -> None:
    found = find_sources([str(tree)]).sources
    assert [source.name for source in found] == ["a/10.NDJSON", "a/2.json.gz", "a-b.jsonl.xz", "b.jsonl"]
    assert [source.path for source in found] == [str(tree / source.name) for source in found]
    assert [source.bytes for source in found] == [3 * len(source.name) for source in found]


def test_inputs_keep_the_order_of_the_command_line(tree: Path) -> None:
    assert names(tree / "b.jsonl", tree / "a") == ["b.jsonl", "a/10.NDJSON", "a/2.json.gz"]


def test_a_single_file_is_named_by_its_file_name(tree: Path) -> None:
    assert names(tree / "a" / "2.json.gz") == ["2.json.gz"]


def test_names_do_not_depend_on_how_files_are_spelled(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = find_sources([str(tree / "a")]).sources
    assert find_sources([str(tree / "a" / "10.NDJSON"), str(tree / "a" / "2.json.gz")]).sources == expected
    assert find_sources([str(tree / "a" / "[12]*")]).sources == expected
    monkeypatch.chdir(tree)
    assert find_sources(["a"]).sources == expected
    assert find_sources(["./a/../a/"]).sources == expected
    assert find_sources(["a/*N", "a/*.gz"]).sources == expected
    monkeypatch.chdir(tree / "a")
    assert find_sources(["."]).sources == expected
    assert find_sources(["10.NDJSON", "../a/2.json.gz"]).sources == expected


def test_a_glob_may_reach_into_subfolders(tree: Path) -> None:
    assert names(tree / "**" / "*.js*") == ["a/2.json.gz", "a-b.jsonl.xz", "b.jsonl"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "part[1].jsonl").write_bytes(b"")
    assert names(tmp_path / "part[1].jsonl") == ["part[1].jsonl"]


def test_the_parent_of_a_link_is_that_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    for folder in (tmp_path, tmp_path / "far"):
        (folder / "chat.jsonl").write_text("{}")
    [source] = find_sources([f"{tmp_path}/link/../chat.jsonl"]).sources
    assert source.path == str(tmp_path / "far" / "chat.jsonl")
    with pytest.raises(InputError, match="given twice"):
        find_sources([str(tmp_path / "link" / ".." / "chat.jsonl"), str(tmp_path / "far")])


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"{}\n")
    (tmp_path / "data.jsonl").symlink_to("blob")
    (source,) = find_sources([str(tmp_path / "data.jsonl")]).sources
    assert (source.name, source.bytes) == ("data.jsonl", 3)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ([], "no input"),
        (["absent.jsonl"], "no such file or folder"),
        (["a\0b.jsonl"], "no such file or folder"),
        (["a" * 300], "no such file or folder"),
        (["*.tsv"], "matches no .jsonl, .ndjson, .json, .parquet, .arrow file"),
        (["a/*.md"], "matches no .jsonl, .ndjson, .json, .parquet, .arrow file"),
        (["empty"], "holds no .jsonl, .ndjson, .json, .parquet, .arrow file"),
        (["a/README.md"], "unknown kind of file; expected .jsonl"),
        (["a", "a/2.json.gz"], "2.json.gz: given twice"),
        (["pipe.jsonl"], "not a regular file"),
    ],
)
def test_what_cannot_be_read_is_named(
    tree: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], complaint: str
) -> None:
    (tree / "empty").mkdir()
    os.mkfifo(tree / "pipe.jsonl")
    monkeypatch.chdir(tree)
    with pytest.raises(InputError, match=complaint):
        find_sources(inputs)


def passed_over(*inputs: str | Path) -> dict[str, int]:
    found = find_sources([str(each) for each in inputs]).passed_over
    assert [each.kind for each in found] == sorted({each.kind for each in found})
    return {each.kind: each.count for each in found}


def test_files_that_are_not_read_are_counted_by_kind(tree: Path) -> None:
    for name in (
        "a/b/x.TSV",
        "y.tsv",
        "t.csv.gz",
        "u.7z",
        "part.00001",
        "part.00001.gz",
        "LICENSE",
        "b.jsonl~",
    ):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(b"")
    (tree / "a" / "up").symlink_to(tree)  # and its files are read
    far = tree.with_name(f"{tree.name}-far")
    (far / "x").mkdir(parents=True)
    (far / "x" / "far.jsonl").write_bytes(b"")
    (tree / "a" / "far").symlink_to(far)
    (tree / "a" / "Odd. name!").write_bytes(b"")
    expected = {".7z": 1, ".csv.gz": 1, ".gz": 1, ".jsonl~": 1, ".md": 1, ".tsv": 2}
    expected |= {"hidden": 2, "linked folder": 1, "no suffix": 3}
    assert passed_over(tree) == expected
    found = find_sources([str(tree)])
    assert found.passed_over[5] == PassedOver(".tsv", 2, str(tree / "a/b/x.TSV"))
    assert len(found.sources) == 4
    found = find_sources([str(tree), str(tree / "a" / "far")])
    assert (len(found.sources), "linked folder" in {each.kind for each in found.passed_over}) == (5, False)
    assert passed_over(tree / "b.jsonl") == {}
    assert passed_over(tree / "a", tree / "a-b.jsonl.xz") == {
        ".md": 1,
        ".tsv": 1,
        "hidden": 1,
        "linked folder": 2,
        "no suffix": 1,
    }


def test_what_a_glob_finds_and_is_not_read_is_counted_once(tree: Path) -> None:
    assert passed_over(tree / "a" / "*") == {".md": 1}
    (tree / "b.md").write_bytes(b"")
    (tree / "c.ndjson").write_bytes(b"")
    assert names(tree / "b*", tree / "?.[mn]*") == ["b.jsonl", "c.ndjson"]
    assert passed_over(tree / "b*", tree / "?.[mn]*") == {".md": 1}


def test_a_hidden_file_that_is_named_is_read(tree: Path) -> None:
    found = find_sources([str(tree / "a"), str(tree / "a" / ".hidden.jsonl")])
    assert [source.name for source in found.sources] == ["10.NDJSON", "2.json.gz", ".hidden.jsonl"]
    assert [each.kind for each in found.passed_over] == [".md"]


def test_strict_refuses_what_would_be_passed_over(tree: Path) -> None:
    (tree / "x.tsv").write_bytes(b"")
    (tree / "y.tsv").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        find_sources([str(tree)], strict=True)
    assert f"not read: 1 .md (such as {tree}/a/README.md), 2 .tsv (such as {tree}/x.tsv);" in str(caught.value)
    assert "hidden" not in str(caught.value)
    with pytest.raises(InputError, match=r"1 \.md"):
        find_sources([str(tree / "a" / "*")], strict=True)
    for name in ("x.tsv", "y.tsv", "a/README.md"):
        (tree / name).unlink()
    assert [each.kind for each in find_sources([str(tree)], strict=True).passed_over] == ["hidden"]


def test_a_name_that_is_not_utf8_may_be_passed_over(tree: Path) -> None:
    try:
        (Path(os.fsdecode(os.fsencode(tree) + b"/\xff.md"))).write_bytes(b"")
    except OSError:
        pytest.skip("the file system allows UTF-8 names only")
    (tree / "a" / "README.md").unlink()
    (_, other) = sorted(find_sources([str(tree)]).passed_over, key=lambda each: each.kind, reverse=True)
    assert other == PassedOver(".md", 1, f"{tree}/\\xff.md")


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))).write_bytes(b"")
    except OSError:
        pytest.skip("the file system allows UTF-8 names only")
    with pytest.raises(InputError, match="not UTF-8"):
        find_sources([str(tmp_path)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tree: Path) -> None:
    (tree / "b.jsonl").chmod(0)
    with pytest.raises(InputError, match=r"b\.jsonl: cannot be read: Permission denied"):
        find_sources([str(tree)])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A dictionary of two splits, one of them with what `datasets` keeps of a map beside it."""
    for split, count in (("train", 2), ("test", 1)):
        folder = tmp_path / "saved" / split
        folder.mkdir(parents=True)
        own = [f"data-{number:05}-of-{count:05}.arrow" for number in range(count)]
        for name in own:
            (folder / name).write_bytes(b"arrow")
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in own]}))
        (folder / "dataset_info.json").write_text("{}")
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    (tmp_path / "saved" / "train" / "cache-1f.arrow").write_bytes(b"arrow")
    return tmp_path / "saved"


def test_all_splits_of_a_saved_dictionary_are_read_and_said(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "sftprep"):
        found = find_sources([str(saved)], strict=True)
    expected = ["test/data-00000-of-00001.arrow", "train/data-00000-of-00002.arrow", "train/data-00001-of-00002.arrow"]
    assert [source.name for source in found.sources] == expected
    assert [(each.kind, each.count) for each in found.passed_over] == [("cache of datasets", 1)]
    assert caplog.messages == [f"all splits are read: test, train; name a folder to read one, such as {saved}/train"]


def test_one_split_alone_is_read(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "sftprep"):
        assert names(saved / "train") == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert names(saved / "train" / "cache-1f.arrow") == ["cache-1f.arrow"]
    assert caplog.messages == []


@pytest.mark.parametrize("state", [b"", b"[1]", b'{"_data_files": 5}', b"\xff", b"[" * 100_000])
def test_a_state_that_says_nothing_is_passed_over(saved: Path, state: bytes) -> None:
    (saved / "train" / "state.json").write_bytes(state)
    assert len(names(saved / "train")) == 3  # all that may hold records


def test_a_state_beside_no_saved_dataset_may_hold_records(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b"{}")
    assert names(tmp_path) == ["state.json"]


def test_shards_of_a_hub_folder_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in (
        "data/train-00001-of-00002.parquet",
        "data/train-00000-of-00002.parquet",
        "README.md",
        "dataset_infos.json",
    ):
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]


def test_standard_input_stands_in_its_place(tree: Path) -> None:
    spooled = Source("spooled:///proc/1/fd/3/in.jsonl", "in.jsonl", 7)
    found = find_sources([str(tree / "b.jsonl"), "-", str(tree / "a")], spooled=spooled).sources
    assert [source.name for source in found] == ["b.jsonl", "in.jsonl", "a/10.NDJSON", "a/2.json.gz"]
    assert found[1] is spooled
    assert find_sources(["-"], spooled=spooled).sources == (spooled,)
    with pytest.raises(InputError, match=r"b\.jsonl: the name of a file and of standard input"):
        find_sources(["-", str(tree / "b.jsonl")], spooled=replace(spooled, name="b.jsonl"))
    for inputs, given, said in (
        (["-"], None, "read once only, by `sftprep build`"),
        (["-", "-"], spooled, "given twice"),
    ):
        with pytest.raises(InputError, match=said):
            find_sources(inputs, spooled=given)

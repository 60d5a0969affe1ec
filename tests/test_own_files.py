"""Of a folder, only what sftprep made is ever removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftprep.errors import DatasetError
from sftprep.own_files import refuse_strangers, remove_folder, remove_own, remove_temporaries

OWN = [
    "manifest.json",
    "plan.json",
    "rejects.jsonl",
    ".lock",
    "shard-00000.X.npy",
    "shard-00000.Y.npy",
    "shard-00012.mask.npy",
    "shard-00012.segments.npy",
    "shard-123456.provenance.parquet",
    "receipts/00000.json",
    "rejects/00000.jsonl",
]
TEMPORARY = [
    ".tmp-12-7f00ab-shard-00000.X.npy",
    ".tmp-1-a-plan.json",
    "receipts/.tmp-1-7f-00000.json",
    "rejects/.tmp-1-7f-00000.jsonl",
]
STRANGE = [
    ".tmp-notes",
    ".tmp-1-a",
    ".tmp-1-a-thesis.tex",
    ".tmp-x-a-plan.json",
    "shard-00000.X.npy.bak",
    "my-shard-00000.X.npy",
    "shard-00000.npy",
    "shard-0.X.npy",
    "Manifest.json",
    "README.md",
    "receipts/lunch.json",
    "receipts/more/00000.json",
    "rejects/00000.json",
    "photos/00000.jsonl",
    "photos/.tmp-1-a-plan.json",
    "manifest.json/inside",  # a folder of that name
]


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('"sftprep" "sftprep-plan"')
    return folder


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("strange", STRANGE)
def test_a_strangers_file_is_kept_and_refused(tmp_path: Path, strange: str) -> None:
    own = [name for name in OWN + TEMPORARY if not strange.startswith(name)]
    folder = fill(tmp_path / "out", [*own, strange])
    before = tree(folder)
    with pytest.raises(DatasetError, match=strange.partition("/")[0].replace(".", r"\.")):
        refuse_strangers(folder)
    with pytest.raises(DatasetError):
        remove_folder(folder)
    assert tree(folder) == before
    remove_temporaries(folder)
    assert tree(folder) == before - set(TEMPORARY)
    remove_own(folder, "*")
    assert tree(folder) == {strange}


def test_all_that_is_sftpreps_goes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "out", OWN + TEMPORARY)
    refuse_strangers(folder)
    remove_own(folder, "receipts", "shard-*")
    assert tree(folder) == {name for name in OWN + TEMPORARY if not name.startswith(("receipts", "shard-"))}
    remove_folder(folder)
    assert not folder.exists()
    remove_folder(folder)  # again: there is none


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    fill(tmp_path / "mine", ["00000.json", "shard-00000.X.npy"])
    folder = fill(tmp_path / "out", ["plan.json"])
    (folder / "shard-00000.X.npy").symlink_to(tmp_path / "mine" / "shard-00000.X.npy")
    (folder / "receipts").symlink_to(tmp_path / "mine")
    with pytest.raises(DatasetError, match="receipts"):  # a link is no folder of sftprep's
        remove_folder(folder)
    remove_own(folder, "*")
    assert tree(folder) <= {"receipts"}
    assert tree(tmp_path / "mine") == {"00000.json", "shard-00000.X.npy"}


@pytest.mark.parametrize("name", OWN)
def test_before_a_build_began_nothing_is_sftpreps(tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / "out", [name])
    if name == ".lock":
        refuse_strangers(folder, begun=False)
    else:
        with pytest.raises(DatasetError, match="not empty"):
            refuse_strangers(folder, begun=False)
    refuse_strangers(fill(tmp_path / "killed", [".tmp-1-a-plan.json", ".lock"]), begun=False)


@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
def test_a_file_of_our_name_by_somebody_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"short_name": "A web page"}')
    with pytest.raises(DatasetError, match=f"{name}: not of sftprep"):
        refuse_strangers(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    for begun in (True, False):
        with pytest.raises(DatasetError, match="not a folder"):
            refuse_strangers(tmp_path / "out", begun=begun)

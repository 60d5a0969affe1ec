"""Of a folder, only what sftprep made is ever removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.builds import SAMPLE

from sftprep.config import BuildConfig
from sftprep.dataset.manifest import Manifest, load_manifest
from sftprep.errors import DatasetError
from sftprep.jobs.build import build_dataset
from sftprep.jobs.own_files import refuse_strangers, refuse_to_replace, remove_folder, remove_own, remove_temporaries

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
    "validation-00000.X.npy",
    "keys/00000.contents",
    "keys/00000.repeats",
    "keys/shard-00000.keys",
    "keys/validation-00000.keys",
]
TEMPORARY = [
    ".tmp-12-7f00ab-shard-00000.X.npy",
    ".tmp-1-a-plan.json",
    "receipts/.tmp-1-7f-00000.json",
    "rejects/.tmp-1-7f-00000.jsonl",
    "keys/.tmp-1-7f-00000.repeats",
    "keys/.tmp-1-7f-validation-00000.keys",
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
    "validation.jsonl",
    "validation-00000.json",
    "keys/private.keys",
    "photos/.tmp-1-a-plan.json",
    "manifest.json/inside",  # a folder of that name
]


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("" if name == ".lock" else '"sftprep" "sftprep-plan"')
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


def test_what_is_not_sftpreps_keeps_its_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path / "out", [*OWN, "notes.txt"])
    remove_folder(folder)
    assert tree(folder) == {"notes.txt"}


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    fill(tmp_path / "mine", ["00000.json", "shard-00000.X.npy"])
    folder = fill(tmp_path / "out", ["plan.json"])
    (folder / "shard-00000.X.npy").symlink_to(tmp_path / "mine" / "shard-00000.X.npy")
    (folder / "receipts").symlink_to(tmp_path / "mine")
    with pytest.raises(DatasetError, match="receipts"):  # a link is no folder of sftprep's
        refuse_strangers(folder)
    remove_own(folder, "*")
    assert tree(folder) <= {"receipts"}
    assert tree(tmp_path / "mine") == {"00000.json", "shard-00000.X.npy"}
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(DatasetError, match="a link"):
        refuse_to_replace(tmp_path / "link")
    fill(tmp_path / "mine", OWN)
    before = tree(tmp_path / "mine")
    remove_folder(tmp_path / "link")
    assert tree(tmp_path / "mine") == before


@pytest.mark.parametrize("name", [*OWN, *TEMPORARY])
@pytest.mark.parametrize("content", ['"not ours"', "", '{\n "checksum": "ab'])
def test_without_plan_or_manifest_nothing_is_sftpreps(tmp_path: Path, name: str, content: str) -> None:
    """But what a build leaves that is killed before it has a plan: a lock that says who holds it or nothing, half a plan."""
    folder = fill(tmp_path / "out", [name])
    (folder / name).write_text(content)
    half = name in (".tmp-1-a-plan.json", "plan.json", "manifest.json") and content != '"not ours"'
    if half or (name == ".lock" and not content):
        refuse_strangers(folder)
        remove_folder(folder)
        assert not folder.exists()
        return
    with pytest.raises(DatasetError, match="not empty"):
        refuse_strangers(folder)
    remove_temporaries(folder)
    remove_own(folder, "*")
    remove_folder(folder)
    assert tree(folder) == {name}


def dataset(folder: Path) -> Manifest:
    """A small dataset in `folder`."""
    source = folder.with_suffix(".jsonl")
    source.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    return build_dataset(BuildConfig((str(source),), str(SAMPLE / "tokenizer"), max_length=64), folder)


@pytest.mark.parametrize(
    "name", ["shard-00001.X.npy", "receipts/00000.json", ".tmp-1-a-manifest.json", ".tmp-1-a-plan.json", "plan.json"]
)
def test_beside_a_manifest_what_it_lists_is_sftpreps(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    listed = {"manifest.json", *dataset(folder).files}
    assert tree(folder) == listed
    refuse_strangers(folder)
    fill(folder, [name])
    (folder / name).write_text("not ours")
    with pytest.raises(DatasetError, match="which is not sftprep's"):
        refuse_strangers(folder)
    remove_temporaries(folder)
    assert tree(folder) == {*listed, name}
    remove_own(folder, "*")
    assert tree(folder) == {name}


def test_beside_a_damaged_manifest_names_tell(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    dataset(folder)
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DatasetError):
        load_manifest(folder)
    fill(folder, ["shard-00001.X.npy"])
    refuse_strangers(folder)
    fill(folder, ["receipts/00000.json"])
    with pytest.raises(DatasetError, match="receipts"):
        refuse_strangers(folder)
    remove_own(folder, "shard-*", "rejects.jsonl")
    assert tree(folder) == {"manifest.json", "receipts/00000.json"}


@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
def test_a_file_of_our_name_by_somebody_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"short_name": "A web page"}')
    with pytest.raises(DatasetError, match=f"no dataset of sftprep .it holds {name}"):
        refuse_strangers(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DatasetError, match="not a folder"):
        refuse_strangers(tmp_path / "out")


def test_the_place_of_the_call_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out" / "receipts").mkdir(parents=True)
    for inside in ("out", "out/receipts"):
        monkeypatch.chdir(tmp_path / inside)
        with pytest.raises(DatasetError, match="run it elsewhere"):
            refuse_to_replace(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    refuse_to_replace(tmp_path / "out" / "receipts")

"""A command that refuses a folder has changed nothing in it, and limits are those of the call that states them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.builds import OLD, SAMPLE, Lab, hashes, laboratory


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("refusals")) as lab:
        yield lab


@pytest.fixture(scope="module")
def unfinished(lab: Lab) -> Path:
    """A plan with one of its splits done, and what a killed writer leaves."""
    folder = lab.folder / "unfinished"
    assert lab.builds.run("plan", *lab.command(folder)[1:]).code == 0
    assert lab.builds.run("work", str(folder), "--task", "1").code == 0
    (folder / ".tmp-1-7f-shard-00000.X.npy").write_bytes(b"half")
    return folder


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file, link and folder around `folder` with its contents and the time of its last change."""
    around = folder.parent
    seen = {}
    for path in sorted(around.rglob("*")):
        if path.is_symlink():
            content = f"link to {path.readlink()}"
        else:
            content = path.read_text("latin-1") if path.is_file() else "not a file"
        seen[path.relative_to(around).as_posix()] = (content, path.lstat().st_mtime_ns if path.is_file() else 0)
    return seen


def thesis(lab: Lab, out: Path) -> None:
    out.mkdir()
    for name in (
        "thesis.tex",
        ".tmp-draft",
        ".tmp-1-7f-plan.json",
        "shard-00000.X.npy",
        "chapters/.tmp-1-7f-plan.json",
    ):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("not yours")


def web_page(lab: Lab, out: Path) -> None:
    out.mkdir()
    (out / "manifest.json").write_text('{"short_name": "A web page"}')
    (out / "index.html").write_text("not yours")


def floor_plan(lab: Lab, out: Path) -> None:
    out.mkdir()
    (out / "plan.json").write_text('{"rooms": 9}')
    (out / ".tmp-sketch").write_text("not yours")


def web_manifest_alone(lab: Lab, out: Path) -> None:
    out.mkdir()
    (out / "manifest.json").write_text('{"short_name": "A web page"}')


def dataset(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "old", out)


def dataset_with_notes(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    (out / "notes.txt").write_text("not yours")


def dataset_beside_a_stranger(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    (out.parent / f".{out.name}.new").mkdir()
    (out.parent / f".{out.name}.new" / "thesis.tex").write_text("not yours")


def begun(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "unfinished", out)


def foreign_lock(lab: Lab, out: Path) -> None:
    out.mkdir()
    (out / ".lock").write_text("package-lock 3")


def pipe_for_lock(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    os.mkfifo(out / ".lock")


def link_for_lock(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    (out.parent / "mine").write_text("")
    (out / ".lock").symlink_to(out.parent / "mine")


def foreign_temporary(lab: Lab, out: Path) -> None:
    out.mkdir()
    (out / ".tmp-12-ab-manifest.json").write_text("not yours")


def foreign_half_plan(lab: Lab, out: Path) -> None:
    out.mkdir()
    (out / ".tmp-12-ab-plan.json").write_text("not yours")


def receipts_alone(lab: Lab, out: Path) -> None:
    (out / "receipts").mkdir(parents=True)
    (out / "receipts" / "00000.json").write_text("not yours")


def dataset_with_a_shard_more(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    (out / "shard-00009.X.npy").write_text("not yours")


def dataset_with_a_floor_plan(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    (out / "plan.json").write_text('{"rooms": 9}')


def dataset_beside_rejects(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    (out.parent / f".{out.name}.new").mkdir()
    (out.parent / f".{out.name}.new" / "rejects.jsonl").write_text("not yours")


def dataset_beside_a_floor_plan(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    floor_plan(lab, out.parent / f".{out.name}.new")


def dataset_beside_a_file(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    (out.parent / f".{out.name}.new").write_text("not yours")


def dataset_beside_a_link(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    dataset(lab, out.parent / "other")
    (out.parent / f".{out.name}.new").symlink_to(out.parent / "other")


def dataset_behind_a_link(lab: Lab, out: Path) -> None:
    dataset(lab, out.parent / "other")
    out.symlink_to(out.parent / "other")


def dataset_without_a_file(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "expected", out)
    (out / "shard-00001.mask.npy").unlink()


def dataset_with_a_short_file(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "expected", out)
    os.truncate(out / "shard-00001.mask.npy", 200)


def begun_with_a_link(lab: Lab, out: Path) -> None:
    begun(lab, out)
    shutil.move(out / "receipts", out.parent / "receipts")
    (out / "receipts").symlink_to(out.parent / "receipts")


def a_file(lab: Lab, out: Path) -> None:
    out.write_text("not yours")


Maker = Callable[[Lab, Path], None]
STRANGERS = [
    thesis,
    web_page,
    floor_plan,
    web_manifest_alone,
    a_file,
    foreign_lock,
    foreign_temporary,
    foreign_half_plan,
    receipts_alone,
]
BESIDE = [
    dataset_beside_a_stranger,
    dataset_beside_rejects,
    dataset_beside_a_floor_plan,
    dataset_beside_a_file,
    dataset_beside_a_link,
]
NOT_LOCKED = [pipe_for_lock, link_for_lock]
INCOMPLETE = [dataset_without_a_file, dataset_with_a_short_file]
REFUSED: list[tuple[Maker, list[str], str]] = [
    *((maker, ["build"], "") for maker in STRANGERS),
    *((maker, ["build", "--overwrite"], "") for maker in STRANGERS),
    *((maker, ["plan"], "") for maker in STRANGERS),
    *((maker, ["plan", "--overwrite"], "") for maker in STRANGERS),
    *((maker, ["commit"], "") for maker in STRANGERS),
    *((maker, ["work", "--task", "0"], "") for maker in STRANGERS),
    *((maker, ["verify"], "") for maker in STRANGERS),
    *((maker, ["inspect"], "") for maker in STRANGERS),
    *((maker, ["demo"], "") for maker in STRANGERS),
    (dataset, ["build"], "holds a dataset made from another option max-length"),
    (dataset, ["plan"], "holds a dataset made from another option max-length"),
    (dataset_with_notes, ["build", "--overwrite"], "notes.txt, which is not sftprep's"),
    (dataset_with_notes, ["plan", "--overwrite"], "notes.txt, which is not sftprep's"),
    (dataset_with_a_shard_more, ["build", "--overwrite"], "shard-00009.X.npy, which is not sftprep's"),
    (dataset_with_a_floor_plan, ["plan", "--overwrite"], "plan.json, which is not sftprep's"),
    (dataset_behind_a_link, ["build", "--overwrite"], "a link, which cannot be replaced"),
    *((maker, ["build", "--overwrite"], ".out.new: ") for maker in BESIDE),
    *((maker, ["plan", "--overwrite"], ".out.new: ") for maker in BESIDE),
    *((maker, [*command], "not a lock") for maker in NOT_LOCKED for command in (["build"], ["plan"], ["commit"])),
    *((maker, ["build", "--max-length", "64"], "shard-00001.mask.npy: missing, or of") for maker in INCOMPLETE),
    *((maker, ["plan", "--max-length", "64"], "shard-00001.mask.npy: missing, or of") for maker in INCOMPLETE),
    *((maker, ["commit"], "shard-00001.mask.npy: missing, or of") for maker in INCOMPLETE),
    *((maker, ["work", "--task", "0"], "shard-00001.mask.npy: missing, or of") for maker in INCOMPLETE),
    (begun_with_a_link, ["build"], "receipts: a link"),
    (begun_with_a_link, ["work", "--task", "0"], "receipts: a link"),
    (begun, ["build", *OLD], "unfinished build with another option max-length"),
    (begun, ["plan", *OLD], "unfinished build with another option max-length"),
    (begun, ["commit"], "2 of 3 splits are not done: 0, 2"),
    (begun, ["work", "--task", "3"], "the plan has splits 0 to 2"),
    (begun, ["work", "--task", "0", "--tokenizer", "OTHER"], "the tokenizer has changed"),
    (begun, ["work", "--task", "0", "--tokenizer", "nowhere/at/all"], "nowhere"),
    (begun, ["build", "nowhere.jsonl"], "nowhere.jsonl"),
    (begun, ["build", "--tokenizer", "nowhere/at/all"], "nowhere"),
    (begun, ["build", "--max-rejects", "-1"], "expected a number such as 20"),
    (begun, ["verify"], "manifest.json"),
    (begun, ["inspect"], "manifest.json"),
]


@pytest.mark.parametrize(
    ("maker", "command", "said"), REFUSED, ids=[f"{maker.__name__}-{' '.join(what)}" for maker, what, _ in REFUSED]
)
def test_a_refused_command_has_changed_nothing(
    lab: Lab, unfinished: Path, out: Path, maker: Maker, command: list[str], said: str
) -> None:
    maker(lab, out)
    before = tree(out)
    name, *more = [str(other_tokenizer(lab)) if each == "OTHER" else each for each in command]
    if name in ("build", "plan"):
        arguments = [name, *lab.command(out, *more)[1:]]
    else:
        arguments = [name, *(["-o"] if name == "demo" else []), str(out), *more]
    ended = lab.builds.run(*arguments)
    assert ended.code in (1, 2), ended.output
    assert "Traceback" not in ended.output
    assert "internal error" not in ended.output
    assert said in ended.output
    assert tree(out) == before


def other_tokenizer(lab: Lab) -> Path:
    folder = lab.folder / "other-tokenizer"
    if not folder.exists():
        shutil.copytree(SAMPLE / "tokenizer", folder)
        text = (folder / "tokenizer.json").read_text()
        (folder / "tokenizer.json").write_text(text.replace("<|endoftext|>", "<|end-of-text|>"))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["build", "nowhere.jsonl"],
        ["build", "-t", "nowhere/at/all"],
        ["build", "--date", "x"],
        ["build", "--date", "2026-02-30"],
    ],
)
def test_what_cannot_begin_makes_no_folder(lab: Lab, out: Path, command: list[str]) -> None:
    ended = lab.builds.run(*lab.command(out, *command[1:]))
    assert ended.code in (1, 2), ended.output
    assert "Traceback" not in ended.output
    assert "internal error" not in ended.output
    assert not out.exists()


def test_a_dataset_may_be_replaced_and_nothing_else_goes(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    (out.parent / "beside.txt").write_text("not yours")
    assert lab.builds.run(*lab.command(out, "--overwrite")).code == 0
    assert hashes(out) == lab.expected
    assert {each.name for each in out.parent.iterdir()} == {"out", "beside.txt"}


@pytest.mark.parametrize(
    "command", [["build"], ["build", "--overwrite"], ["plan"], ["commit"], ["work", "--task", "0"]]
)
def test_the_root_of_the_file_system_is_no_dataset(lab: Lab, out: Path, command: list[str]) -> None:
    name, *more = command
    arguments = [name, *lab.command("/", *more)[1:]] if name in ("build", "plan") else [name, "/", *more]
    ended = lab.builds.run(*arguments)
    assert (ended.code, "/: the root of a file system cannot be a dataset" in ended.output) == (1, True), ended.output


def test_a_dataset_is_not_replaced_from_within(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    before = tree(out)
    for place in (".", "../out", str(out)):
        ended = lab.builds.run(*lab.command(place, "--overwrite"), folder=out)
        assert (ended.code, "would be replaced, and this is run in it" in ended.output) == (1, True), ended.output
        assert tree(out) == before
    ended = lab.builds.run(*lab.command("."), folder=out)  # complete, with other options: refused, as from without
    assert "holds a dataset made from another option max-length" in ended.output
    (out.parent / "empty").mkdir()
    assert lab.builds.run(*lab.command("."), folder=out.parent / "empty").code == 0
    assert hashes(out.parent / "empty") == lab.expected


@pytest.mark.parametrize(
    "beside",
    [dataset_beside_a_stranger, dataset_beside_rejects, dataset_beside_a_floor_plan, dataset_beside_a_file, begun],
)
def test_what_is_beside_a_complete_dataset_is_no_matter(lab: Lab, out: Path, beside: Maker) -> None:
    """But an unfinished build that was to replace it goes."""
    if beside is begun:
        dataset(lab, out)
        begun(lab, out.parent / ".out.new")
    else:
        beside(lab, out)
    before = tree(out)
    ended = lab.builds.run(*lab.command(out, *OLD))
    assert (ended.code, "nothing to do" in ended.output) == (0, True), ended.output
    if beside is begun:
        assert hashes(out.parent) == {f"out/{name}": digest for name, digest in lab.old.items()} | {"out": ""}
    else:
        assert tree(out) == before


def test_a_floor_plan_in_a_complete_dataset_is_kept(lab: Lab, out: Path) -> None:
    dataset_with_a_floor_plan(lab, out)
    receipts_alone(lab, out.parent / "others")
    shutil.move(out.parent / "others" / "receipts", out / "receipts")
    before = tree(out)
    for command in (lab.command(out, *OLD), ["commit", str(out)], ["work", str(out), "--task", "0"]):
        assert lab.builds.run(*command).code == 0
        assert tree(out) == before


def test_notes_in_a_dataset_do_not_keep_it_from_being_complete(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "expected", out)
    (out / "notes.txt").write_text("mine")
    ended = lab.builds.run(*lab.command(out))
    assert (ended.code, "nothing to do" in ended.output) == (0, True)
    assert (out / "notes.txt").read_text() == "mine"

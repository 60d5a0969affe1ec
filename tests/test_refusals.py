"""A command that refuses a folder has changed nothing in it, and limits are those of the call that states them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from faults.builds import OLD, SAMPLE, Lab, hashes, laboratory

from sftprep.shards import read_receipt


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
    """Every file and folder around `folder` with its contents and the time of its last change."""
    around = folder.parent
    return {
        name: (digest, (around / name).lstat().st_mtime_ns if digest else 0) for name, digest in hashes(around).items()
    }


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


def a_file(lab: Lab, out: Path) -> None:
    out.write_text("not yours")


Maker = Callable[[Lab, Path], None]
STRANGERS = [thesis, web_page, floor_plan, web_manifest_alone, a_file]
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
    (dataset_beside_a_stranger, ["build", "--overwrite"], "thesis.tex, which is not sftprep's"),
    (begun, ["build", *OLD], "unfinished build with another option max-length"),
    (begun, ["plan", *OLD], "unfinished build with another option max-length"),
    (begun, ["commit"], "2 of 3 splits are not done: 0, 2"),
    (begun, ["work", "--task", "3"], "the plan has splits 0 to 2"),
    (begun, ["work", "--task", "0", "--tokenizer", "OTHER"], "the tokenizer has changed"),
    (begun, ["work", "--task", "0", "--tokenizer", "nowhere/at/all"], "nowhere"),
    (begun, ["build", "nowhere.jsonl"], "nowhere.jsonl"),
    (begun, ["build", "--tokenizer", "nowhere/at/all"], "nowhere"),
    (begun, ["build", "--max-rejects", "-1"], "must not be negative"),
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
    "command", [["build", "nowhere.jsonl"], ["build", "-t", "nowhere/at/all"], ["build", "--date", "x"]]
)
def test_what_cannot_begin_makes_no_folder(lab: Lab, out: Path, command: list[str]) -> None:
    ended = lab.builds.run(*lab.command(out, *command[1:]))
    assert (ended.code in (1, 2)) == (command[1] != "--date"), ended.output
    assert out.exists() == (command[1] == "--date")  # a date that no template asks for is no fault


def test_a_dataset_may_be_replaced_and_nothing_else_goes(lab: Lab, out: Path) -> None:
    dataset(lab, out)
    (out.parent / "beside.txt").write_text("not yours")
    assert lab.builds.run(*lab.command(out, "--overwrite")).code == 0
    assert hashes(out) == lab.expected
    assert {each.name for each in out.parent.iterdir()} == {"out", "beside.txt"}


def test_notes_in_a_dataset_do_not_keep_it_from_being_complete(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "expected", out)
    (out / "notes.txt").write_text("mine")
    ended = lab.builds.run(*lab.command(out))
    assert (ended.code, "nothing to do" in ended.output) == (0, True)
    assert (out / "notes.txt").read_text() == "mine"


# -- the option of this call counts: there are 6 rejects among 151 records ------------------------------------------------


def test_limits_are_of_the_call(lab: Lab, out: Path) -> None:
    ended = lab.builds.run(*lab.command(out, "--max-rejects", "0"))
    assert ended.code == 1
    assert "6 of 151 records rejected, more than 0" in ended.output
    assert not (out / "manifest.json").exists()
    ended = lab.builds.run(*lab.command(out, "--max-rejects", "5"))
    assert (ended.code, "more than 5" in ended.output) == (1, True)
    assert lab.builds.run(*lab.command(out, "--max-rejects", "6")).code == 0
    assert hashes(out) == lab.expected
    for stricter in (["--max-rejects", "5"], ["--max-rejects", "1%"], ["--on-error", "stop"]):
        ended = lab.builds.run(*lab.command(out, *stricter))
        assert (ended.code, "records rejected" in ended.output) == (1, True), ended.output
        assert hashes(out) == lab.expected
    assert lab.builds.run(*lab.command(out)).code == 0


def test_a_limit_that_failed_is_got_past_by_overwriting_too(lab: Lab, out: Path) -> None:
    assert lab.builds.run(*lab.command(out, "--max-rejects", "0", "--overwrite")).code == 1
    assert lab.builds.run(*lab.command(out, "--overwrite")).code == 0
    assert hashes(out) == lab.expected


def test_steps_have_limits_of_their_own(lab: Lab, out: Path) -> None:
    """Whatever the plan was given: it keeps none of them."""
    strict = ["--max-rejects", "0", "--on-error", "stop", "--workers", "7", "--trust-remote-code"]
    assert lab.builds.run("plan", *lab.command(out, *strict)[1:]).code == 0
    planned = json.loads((out / "plan.json").read_text())["config"]
    assert not planned.keys() & {"max_rejects", "on_error", "workers", "trust_remote_code", "strict"}
    ended = lab.builds.run("work", str(out), "--task", "0", "--on-error", "stop")
    assert ended.code == 1
    assert "chat-0.jsonl:11: not JSON" in ended.output
    assert not list(out.rglob(".tmp-*"))
    for task in "012":
        assert lab.builds.run("work", str(out), "--task", task).code == 0
    for refused in (["--max-rejects", "5"], ["--on-error", "stop"]):
        ended = lab.builds.run("commit", str(out), *refused)
        assert (ended.code, "records rejected" in ended.output) == (1, True)
    assert lab.builds.run("commit", str(out), "--max-rejects", "4%").code == 0
    assert hashes(out) == lab.expected
    assert lab.builds.run("commit", str(out), "--max-rejects", "0").code == 1
    assert lab.builds.run("commit", str(out)).code == 0


CODE = """
from transformers import PreTrainedTokenizerFast
from pathlib import Path
Path({marker!r}).touch()
class Custom(PreTrainedTokenizerFast):
    pass
"""


def test_nobodys_code_is_run_unless_this_call_says_so(lab: Lab, out: Path) -> None:
    """Whatever plan.json says: it is a file that anybody may have written."""
    tokenizer, marker = out.parent / "tokenizer", out.parent / "ran"
    shutil.copytree(SAMPLE / "tokenizer", tokenizer)
    config = json.loads((tokenizer / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": [None, "custom.Custom"]}
    config["tokenizer_class"] = "Custom"
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(config))
    (tokenizer / "custom.py").write_text(CODE.format(marker=str(marker)))
    arguments = lab.command(out, "-t", str(tokenizer), "--trust-remote-code")
    assert lab.builds.run("plan", *arguments[1:]).code == 0
    assert marker.exists()
    marker.unlink()
    ended = lab.builds.run("work", str(out), "--task", "0")
    assert ended.code == 1, ended.output
    assert "trust" in ended.output
    assert not marker.exists()
    assert lab.builds.run("work", str(out), "--task", "0", "--trust-remote-code").code == 0
    assert marker.exists()


# -- plan.json and receipts that were changed ---------------------------------------------------------------------------


def flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


@pytest.fixture(scope="module")
def done(lab: Lab) -> Path:
    """All splits done, nothing committed."""
    folder = lab.folder / "done"
    assert lab.builds.run("plan", *lab.command(folder)[1:]).code == 0
    for task in "012":
        assert lab.builds.run("work", str(folder), "--task", task).code == 0
    return folder


@pytest.mark.parametrize("name", ["plan.json", "receipts/00001.json"])
def test_a_changed_bit_is_refused_or_changes_nothing(lab: Lab, done: Path, out: Path, name: str) -> None:
    """By what reads them, 200 times; by the commands, some of these times."""
    from sftprep.errors import DatasetError
    from sftprep.plan import Plan, read_plan

    shutil.copytree(done, out)
    random, whole = Random(name), (out / name).read_bytes()
    plan = read_plan(done)
    receipt = read_receipt(done, 1, plan.fingerprint)
    accepted = 0
    for number in range(200):
        (out / name).write_bytes(flipped(whole, random))
        if name == "plan.json":
            try:
                assert Plan.from_bytes((out / name).read_bytes(), out / name) == plan
                accepted += 1
            except DatasetError:
                pass
        else:
            found = read_receipt(out, 1, plan.fingerprint)
            assert found in (receipt, None)
            accepted += found is not None
        if number % 40 == 0:
            ended = lab.builds.run("commit", str(out))
            if ended.code == 0:
                assert hashes(out) == lab.expected
                shutil.rmtree(out)
                shutil.copytree(done, out)
            else:
                assert ended.code == 1
                assert "Traceback" not in ended.output
                assert not (out / "manifest.json").exists()
    assert accepted < 40  # a bit of white space, at most
    (out / name).write_bytes(flipped(whole, Random(1)))
    ended = lab.builds.run(*lab.command(out, *["--overwrite"] * (name == "plan.json")))
    assert ended.code == 0, ended.output
    assert hashes(out) == lab.expected

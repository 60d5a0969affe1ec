"""A dataset with two sets, as those see it who read it, look at it, check it and pass it on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from faults.builds import hashes
from small_builds import CONVERSATIONS, GOOD, TOKENIZER, build, write
from small_dataset import signed

from sftprep.cli.commands import main
from sftprep.config import BuildConfig
from sftprep.dataset.manifest import load_manifest
from sftprep.dataset.verify import verify_dataset
from sftprep.errors import ConfigError, DatasetError, InputError
from sftprep.exports.export import export_dataset
from sftprep.jobs.rederive import verify_source


def command(*arguments: str | Path) -> tuple[int, str]:
    """Exit code, and all that is said, in one line."""
    ended = CliRunner(env={"COLUMNS": "200"}).invoke(main, list(map(str, arguments)))
    return ended.exit_code, " ".join(ended.output.split())


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, of which three conversations are in the validation input too, one of them in capitals."""
    folder = tmp_path_factory.mktemp("held-out")
    sample = CONVERSATIONS.read_text().splitlines()
    shouted = json.dumps(json.loads(sample[2]) | {"messages": [{**each, "content": each["content"].upper()} for each in json.loads(sample[2])["messages"]]})  # fmt: skip
    (folder / "a.jsonl").write_bytes(CONVERSATIONS.read_bytes())
    (folder / "v.jsonl").write_text("\n".join([*sample[:2], shouted]) + "\n{broken\n")
    build(folder / "out", str(folder / "a.jsonl"), validation_input=(str(folder / "v.jsonl"),), max_length=512)
    return folder / "out"


def test_read(held_out: Path) -> None:
    reader = pytest.importorskip("sftprep.reader")
    train, validation = (reader.ShardDataset(held_out, set=name) for name in ("train", "validation"))
    assert len(reader.ShardDataset(held_out)) == len(train)
    assert len(validation) == 3
    assert np.array_equal(validation[1][0].numpy(), np.load(held_out / "validation-00000.X.npy")[1])
    assert np.array_equal(train[-1][0].numpy(), np.load(held_out / "shard-00000.X.npy")[-1])
    with pytest.raises(ConfigError, match="no set 'test'; there is train and validation"):
        reader.ShardDataset(held_out, set="test")


def test_looked_at(held_out: Path) -> None:
    code, shown = command("inspect", held_out, "--set", "validation", "-t", TOKENIZER)
    assert (code, shown.count("validation-00000 · v.jsonl:"), shown.count("row 2")) == (0, 3, 1)
    assert command("inspect", held_out)[1].count("shard-00000") == 3
    code, said = command("inspect", held_out, "3", "--set", "validation")
    assert (code, "has rows 0 to 2" in said) == (2, True)
    assert command("inspect", held_out, "--set", "test")[0] == 2
    _, table = command("stats", held_out)
    assert "train set 74 conversations, 74 rows" in table
    assert "validation set 3 conversations, 3 rows" in table
    assert "near-copies 3 of the training set are in the validation set too" in table
    assert "--deduplicate drops the exact ones" in table
    stated = json.loads(command("stats", held_out, "--json")[1])
    assert stated["sets"]["validation"]["conversations"] == 3
    assert stated["totals"]["conversations"] == 77


def test_passed_on(held_out: Path, tmp_path: Path) -> None:
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    datasets = pytest.importorskip("datasets")
    for form in ("hf", "llama-factory"):
        export_dataset(held_out, form, tmp_path / form)
        loaded = datasets.load_from_disk(str(tmp_path / form))
        assert {name: len(rows) for name, rows in loaded.items()} == {"train": 74, "validation": 3}
        ids = loaded["validation"][1]["input_ids"]
        assert ids[:-1] == np.load(held_out / "validation-00000.X.npy")[1, : len(ids) - 1].tolist()
        assert str(loaded["validation"].split) == "validation"


def test_checked(held_out: Path, tmp_path: Path) -> None:
    sources = [str(held_out.parent / name) for name in ("a.jsonl", "v.jsonl")]
    assert verify_dataset(held_out) == []
    assert verify_source(held_out, sources, TOKENIZER) == []
    assert {problem.file for problem in verify_source(held_out, sources[:1], TOKENIZER)} >= {"v.jsonl"}
    stated = json.loads((held_out / "manifest.json").read_text())
    stated["sets"]["validation"]["tokens"] += 1
    for path in held_out.iterdir():
        (tmp_path / path.name).hardlink_to(path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").write_bytes(signed(stated))
    (tmp_path / "validation-00001.X.npy").write_bytes(b"")
    said = [f"{problem.file}: {problem.what}" for problem in verify_dataset(tmp_path)]
    assert "validation-00001.X.npy: not in the manifest" in said
    assert any(each.startswith("manifest.json: sets: validation: tokens ") for each in said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda stated: stated["sets"].pop("train"), "sets: rows of 'train' are not the sum of its shards' rows"),
        (lambda stated: stated["sets"]["train"].update(rows=1), "sets: rows of 'train' are not the sum"),
        (lambda stated: stated["sets"]["train"].pop("examples"), "'sets'.'train'.'examples' is missing"),
        (lambda stated: stated["sets"].update(test=stated["sets"]["train"]), "sets: a name is 'test'; expected one of"),
        (lambda stated: stated["shards"][0].update(set="validation"), "name 'shard-00000'; expected validation-00000 to"),
        (lambda stated: stated["shards"].reverse(), "shards: not in order"),
        (lambda stated: stated["inputs"][0].update(set="test"), "'inputs'[0].'set' is 'test'; expected one of train, vali"),
    ],
)  # fmt: skip
def test_a_manifest_whose_sets_are_wrong(held_out: Path, tmp_path: Path, change: Any, said: str) -> None:
    stated = json.loads((held_out / "manifest.json").read_text())
    change(stated)
    (tmp_path / "manifest.json").write_bytes(signed(stated))
    with pytest.raises(DatasetError) as error:
        load_manifest(tmp_path)
    assert said in str(error.value)


def test_a_share_that_takes_none_is_said(tmp_path: Path) -> None:
    code, said = command("build", CONVERSATIONS, "-o", tmp_path / "out", "-t", TOKENIZER, "--validation", "0.0001%")
    assert code == 0
    assert "validation set 0 of 0.0001% there is no conversation; try a larger share, or another --seed" in said
    assert not list((tmp_path / "out").glob("validation*"))
    code, said = command("inspect", tmp_path / "out", "--set", "validation")
    assert (code, "no set 'validation' with a row in it; there is train" in said) == (2, True)
    manifest = build(tmp_path / "none", str(CONVERSATIONS), validation_input=(write(tmp_path / "v.jsonl", b"{"),))
    assert manifest.sets["validation"]["rows"] == 0
    assert "none of its records gives a row" in command("stats", tmp_path / "none")[1]


def test_without_sets_a_dataset_is_what_it_was(tmp_path: Path) -> None:
    manifest = build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD, GOOD))
    assert manifest.sets.keys() == {"train"}
    assert "train set" not in command("stats", tmp_path / "out")[1]


@pytest.mark.parametrize("share", ["0%", "100%", "1", "0.01", "a%", "-1%", "nan%", "1e3%", ""])
def test_shares_that_are_none(share: str) -> None:
    with pytest.raises(ConfigError, match=r"--validation .*expected a share between 0% and 100%, such as 1%"):
        BuildConfig(("a.jsonl",), TOKENIZER, validation=share)


def test_one_validation_set_of_other_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--validation and --validation-input"):
        BuildConfig(("a.jsonl",), TOKENIZER, validation="1%", validation_input=("b.jsonl",))
    source = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(InputError, match=r"a\.jsonl: given twice"):
        build(tmp_path / "out", source, validation_input=(str(tmp_path),))
    with pytest.raises(InputError, match=r"e\.jsonl: no record in it"):
        build(tmp_path / "out", source, validation_input=(write(tmp_path / "e.jsonl"),))
    with pytest.raises(
        InputError, match="no row to train on: 0 records rejected, 0 dropped, 1 are in the validation set"
    ):
        build(tmp_path / "out", source, validation="99.99%")


def test_in_a_file_of_options(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", GOOD, GOOD)
    write(tmp_path / "v.jsonl", GOOD)
    for given in (f"'{tmp_path}/v.jsonl'", f"['{tmp_path}/v.jsonl']"):
        (tmp_path / "job.toml").write_text(
            f"inputs = ['{tmp_path}/a.jsonl']\ntokenizer = '{TOKENIZER}'\nvalidation-input = {given}\n"
            "deduplicate = true\nseed = 7\n"
        )
        code, said = command("build", "--config", tmp_path / "job.toml", "-o", tmp_path / "out", "--overwrite")
        assert (code, "no row to train on" in said) == (1, True)  # all of it repeats the validation set
        assert "2 repeat another record" in said


def test_a_manifest_with_sets_builds_its_dataset_again(tmp_path: Path, cache: Path) -> None:
    for name in ("a.jsonl", "v.jsonl"):
        write(tmp_path / name, {"messages": [{**GOOD["messages"][0], "content": name}, GOOD["messages"][1]]})
    options = ["-t", TOKENIZER, "--validation-input", tmp_path / "v.jsonl", "--deduplicate"]
    assert command("build", tmp_path / "a.jsonl", "-o", tmp_path / "out", *options)[0] == 0
    again = command("build", "--config", tmp_path / "out" / "manifest.json", "-o", tmp_path / "again")
    assert again[0] == 0, again
    assert hashes(tmp_path / "again") == hashes(tmp_path / "out")


def test_standard_input_is_no_validation_set() -> None:
    with pytest.raises(ConfigError, match="--validation-input -: standard input can be read as an INPUT only"):
        BuildConfig(("a.jsonl",), TOKENIZER, validation_input=("-",))


def test_the_same_file_in_another_set_is_another_build(tmp_path: Path) -> None:
    sources = [write(tmp_path / name, {"messages": [{**GOOD["messages"][0], "content": name}, GOOD["messages"][1]]}) for name in ("a.jsonl", "b.jsonl")]  # fmt: skip
    build(tmp_path / "out", *sources)
    with pytest.raises(DatasetError, match=r"another input b\.jsonl; use --overwrite"):
        build(tmp_path / "out", sources[0], validation_input=(sources[1],))

"""What is said of bad numbers is true, and of good ones nothing is said."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_builds import GOOD, build, write
from statistics_build import Mixed

from sftprep.dataset.manifest import Manifest, load_manifest
from sftprep.records.said import KINDS
from sftprep.statistics.advice import LEFT_OUT, RULES, advice_on
from sftprep.statistics.gather import statistics_of
from sftprep.statistics.measures import Advice, DatasetStatistics


def talk(words: int) -> dict[str, Any]:
    return {"messages": [GOOD["messages"][0], {"role": "assistant", "content": "word " * words}]}


def advice(folder: Path, *inputs: str, **options: Any) -> dict[str, Advice]:
    """By kind, of a build."""
    build(folder, *inputs, **options)
    return {each.kind: each for each in statistics_of(folder).advice}


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """400 conversations, each of another length."""
    return write(tmp_path_factory.mktemp("talks") / "a.jsonl", *(talk(3 + number) for number in range(400)))


def option_in(found: Advice) -> int:
    name, value = found.option.split()
    assert name == "--max-length"
    return int(value)


def arrays(folder: Path) -> int:
    return sum(path.stat().st_size for kind in ("X", "Y", "mask") for path in folder.glob(f"*.{kind}.npy"))


@pytest.mark.parametrize(("now", "word"), [(60, "are cut off"), (4000, "or fewer, and rows hold 4,000")])
def test_the_length_that_is_advised_cuts_one_percent(tmp_path: Path, talks: str, now: int, word: str) -> None:
    found = advice(tmp_path / "now", talks, max_length=now)["length"]
    assert word in found.what
    then = statistics_of_build(tmp_path / "then", talks, max_length=option_in(found))
    assert (then.whole.truncated, then.whole.lost_as("dropped")) == (4, 0)  # of 400
    assert "length" not in {each.kind for each in then.advice}
    (said,) = re.findall(r"arrays would take ([\d.]+) (k|M)B", found.what)
    size = float(said[0]) * {"k": 1e3, "M": 1e6}[said[1]]
    assert size == pytest.approx(arrays(tmp_path / "then"), rel=0.02)


def statistics_of_build(folder: Path, *inputs: str, **options: Any) -> DatasetStatistics:
    build(folder, *inputs, **options)
    return statistics_of(folder)


def test_the_dropped_ones_count_among_the_long(tmp_path: Path) -> None:
    """Which without their lengths would let a far shorter row seem long enough."""
    prompt = {"messages": [{"role": "user", "content": "word " * 300}, GOOD["messages"][1]]}
    source = write(tmp_path / "a.jsonl", *[talk(5)] * 90, *[prompt] * 10)
    found = advice(tmp_path / "out", source, max_length=50)
    assert "10 of 100 conversations (10%) are longer than 50 tokens: 0 are cut off, 10 dropped" in found["length"].what
    assert option_in(found["length"]) > 300
    assert "dropped" not in found  # which is said once
    whole = statistics_of_build(tmp_path / "whole", source, max_length=option_in(found["length"]))
    assert (whole.whole.truncated, whole.whole.lost_as("dropped")) == (0, 0)


def test_padding(tmp_path: Path, talks: str) -> None:
    found = statistics_of_build(tmp_path / "out", talks, max_length=1024)
    (packing,) = [each for each in found.advice if each.kind == "padding"]
    assert f"about {found.padding.packed_rows:,} would do instead of 400" in packing.what
    full = advice(tmp_path / "full", write(tmp_path / "b.jsonl", *[talk(20)] * 9), max_length=36)
    assert full == {}


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.last and m.reasoning_content %}"
    "<{{ m.reasoning_content }}>{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_contexts(tmp_path: Path) -> None:
    thinks = {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "reasoning_content": "Hm."}] * 3}
    source = write(tmp_path / "a.jsonl", thinks, thinks)
    found = advice(tmp_path / "whole", source, chat_template=TEMPLATE, max_length=80)
    assert (found["contexts"].option, found["reasoning"].option) == ("--contexts served",) * 2
    assert found["contexts"].what.startswith("4 turns are trained in another context")
    assert found["contexts"].what.endswith("2 of 2 examples have such turns")
    assert found["reasoning"].what.startswith("4 turns are trained without reasoning")
    served = advice(tmp_path / "served", source, chat_template=TEMPLATE, contexts="served", max_length=80)
    assert not {"contexts", "reasoning", "unprinted"} & served.keys()


def test_what_the_template_leaves_out_or_does_not_end(tmp_path: Path) -> None:
    named = {"messages": [{**GOOD["messages"][0], "name": "Ann"}, GOOD["messages"][1]]}
    template = TEMPLATE.replace("<|im_end|>", "")
    found = advice(tmp_path / "out", write(tmp_path / "a.jsonl", named, GOOD), chat_template=template)
    assert found["unprinted"].what == f"1 {LEFT_OUT['names']}: the template does not print it"
    assert (found["unended turns"].what[:7], found["unended turns"].option) == ("2 turns", "--end-of-turn")


@pytest.mark.parametrize(("words", "options"), [(0, {}), (400, {"train_on": "all"})])
def test_a_mask_that_trains_next_to_nothing_or_nearly_all(tmp_path: Path, words: int, options: Any) -> None:
    prompt = {
        "messages": [{"role": "user", "content": "word " * 600}, {"role": "assistant", "content": "x" + " y" * words}]
    }
    found = advice(tmp_path / "out", write(tmp_path / "a.jsonl", prompt), max_length=2000, **options)
    assert "of the tokens are trained" in found["trained share"].what


def test_a_group_of_which_next_to_nothing_is_trained_is_named(tmp_path: Path) -> None:
    prompt = {"messages": [{"role": "user", "content": "word " * 600}, {"role": "assistant", "content": "x"}]}
    records = [{**talk(50), "of": "talks"}] * 20 + [{**prompt, "of": "read"}, {**prompt, "of": "hear"}]
    found = advice(tmp_path / "out", write(tmp_path / "a.jsonl", *records), max_length=2000, by="of")
    assert re.search(r"of some groups .* hear \(0.\d+%\), read \(0.\d+%\)$", found["trained share"].what)


def test_rejected_and_dropped(tmp_path: Path) -> None:
    mute = {"messages": GOOD["messages"][:1]}
    source = write(tmp_path / "a.jsonl", *[GOOD] * 50, {"messages": []}, {"messages": []}, mute, mute)
    found = advice(tmp_path / "out", source)
    for kind, reason, option in (
        ("rejected", "no messages; expected at least one (first a.jsonl:51)", "sftprep build --explain INPUT"),
        (
            "dropped",
            "no message to train on: none of a trained role, or all of weight 0 (first a.jsonl:53)",
            "--train-on",
        ),
    ):
        assert found[kind].what == f"2 of 54 records (3.7%) are {kind}, most often for: {reason}"
        assert found[kind].option == option


def test_forged_turns(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"messages": [{"role": "user", "content": "<|im_end|>"}, GOOD["messages"][1]]})
    assert advice(tmp_path / "allow", source, control_tokens="allow")["forged"].option == "--control-tokens split"
    assert "forged" not in advice(tmp_path / "split", source)


def test_every_rule_is_tried_and_every_kind_that_is_left_out_has_words(built: Mixed) -> None:
    assert [*LEFT_OUT] == [*KINDS]
    manifest, found = load_manifest(built.folder), statistics_of(built.folder)
    assert {each.kind for each in found.advice} <= RULES.keys()
    assert advice_on(manifest, found) == found.advice
    other: Manifest = replace(manifest, config={}, totals={"records": 1, "rows": 1})  # options may be gone
    assert {each.kind for each in advice_on(other, found)} <= RULES.keys()


def test_options_that_are_named_exist() -> None:
    text = Path(advice_on.__code__.co_filename).read_text(encoding="utf-8")
    from sftprep.cli.commands import main

    known = {name for command in main.commands.values() for each in command.params for name in each.opts}
    assert set(re.findall(r"--[a-z-]+", text)) <= known


def test_a_key_that_no_record_has(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {**GOOD, "meta": {"source": "web"}, "source": "web"})
    for name, key, word in (("typo", "sourc", "'sourc'"), ("object", "meta", "'meta'"), ("right", "source", None)):
        found = advice(tmp_path / name, source, by=key)
        assert ("by" in found) == (word is not None)
        assert word is None or word in found["by"].what

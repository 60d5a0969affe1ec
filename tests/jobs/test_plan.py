"""What is to be done is known before anything is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from odd_values import ODD, changed, places
from small_builds import GOOD, SAMPLE, TOKENIZER, build, write

from sftprep import __version__
from sftprep.checksum import with_checksum, without_checksum
from sftprep.config import BuildConfig
from sftprep.errors import DatasetError, InputError, TemplateError, TokenizerError
from sftprep.jobs import plan as plan_room
from sftprep.jobs.plan import Plan, Watch, make_plan


def test_what_cannot_be_done_is_said_before_anything_is_written(tmp_path: Path) -> None:
    out, source = tmp_path / "out", write(tmp_path / "a.jsonl", GOOD)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        stated = json.loads((SAMPLE / "tokenizer" / name).read_text())
        stated.pop("chat_template", None)
        (bare / name).write_text(json.dumps(stated))
    with pytest.raises(InputError, match=r"missing\.jsonl"):
        build(out, str(tmp_path / "missing.jsonl"))
    with pytest.raises(InputError, match="no record"):
        build(out, write(tmp_path / "empty.jsonl"))
    with pytest.raises(TemplateError, match="no chat template"):
        build(out, source, tokenizer=str(bare))
    with pytest.raises(TokenizerError, match="nowhere"):
        build(out, source, tokenizer=str(tmp_path / "nowhere"))
    with pytest.raises(TemplateError, match="generation"):
        build(out, source, mask="generation")
    assert not out.exists()


def test_much_input_is_read_once_the_template_is_known_to_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    class Told(Watch):
        def reading(self, size: int) -> Callable[[int], None]:
            told.append(size)
            return told.append

    def plan(*inputs: str, **options: Any) -> None:
        make_plan(BuildConfig(inputs, TOKENIZER, **options), watch=Told())

    source = write(tmp_path / "a.jsonl", GOOD)
    empty = write(tmp_path / "empty.jsonl")
    monkeypatch.setattr(plan_room, "_MUCH", Path(source).stat().st_size)
    with pytest.raises(TemplateError):
        plan(source, chat_template="{{ nothing( }}")
    assert told == []
    plan(source)
    assert told == [Path(source).stat().st_size] * 2
    with pytest.raises(InputError, match="no record"):  # little is read at once
        plan(empty, chat_template="{{ nothing( }}")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Of a folder with a file that is read and one that is not."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.jsonl", GOOD, GOOD)
    (tmp_path / "in" / "notes.md").write_bytes(b"")
    found, _ = make_plan(BuildConfig((str(tmp_path / "in"),), TOKENIZER))
    return found


def test_a_plan_is_read_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    assert Plan.from_bytes(plan.to_bytes(), tmp_path / "plan.json") == plan
    assert (plan.records, plan.describe((0, 2, 90)), plan.passed_over[0].kind) == (2, "a.jsonl:2", ".md")
    assert [source.name for source in plan.sources] == ["a.jsonl"]


def test_the_same_build_has_the_same_plan(plan: Plan) -> None:
    again, _ = make_plan(replace(plan.config, workers=plan.config.workers + 1, tokenizer_engine="auto"))
    assert (again.fingerprint, again.splits) == (plan.fingerprint, plan.splits)
    other, _ = make_plan(replace(plan.config, max_length=99))
    assert other.fingerprint != plan.fingerprint


@pytest.mark.parametrize(("records", "every"), [(1, 1), (399, 1), (400, 2), (49_800, 249), (50_000, 250), (10**9, 250)])
def test_how_many_records_are_masked_both_ways(plan: Plan, records: int, every: int) -> None:
    """One in 250, and 200 of fewer than 50,000."""
    sources = tuple(replace(source, records=records) for source in plan.sources)
    assert replace(plan, sources=sources).check_every == every


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "0" * 64}, "its fingerprint is another's"),
        ({"splits": ()}, "splits are missing"),
        ({"sources": ()}, "its fingerprint is another's"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(plan: Plan, change: dict[str, Any], said: str) -> None:
    data = replace(plan, **change).to_bytes()
    with pytest.raises(DatasetError, match=rf"plan\.json: not a plan of sftprep, or it was changed \({said}\)"):
        Plan.from_bytes(data, Path("plan.json"))


def test_a_plan_of_another_version_is_refused(plan: Plan) -> None:
    data = plan.to_bytes().replace(f'"sftprep": "{__version__}"'.encode(), b'"sftprep": "0.0.1"')
    stated = {key: value for key, value in json.loads(data).items() if key != "checksum"}
    with pytest.raises(DatasetError, match=rf"made by sftprep 0\.0\.1, this is {re.escape(__version__)}"):
        Plan.from_bytes(json.dumps(with_checksum(stated)).encode(), Path("plan.json"))


def test_a_plan_of_odd_values_is_refused_or_followed(plan: Plan) -> None:
    """Every value of plan.json replaced by odd ones, under a checksum and a fingerprint that fit."""
    path = Path("plan.json")
    stated = without_checksum(plan.to_bytes())
    assert Plan.from_bytes(changed(stated, ("passed_over",), stated["passed_over"]), path) == plan
    refused = followed = 0
    for place in places(stated):
        for odd in ODD:
            try:
                odd_plan = Plan.from_bytes(changed(stated, place, odd), path)
            except DatasetError:
                refused += 1
                continue
            followed += 1
            assert odd_plan.facts()
            assert odd_plan.describe((0, 1, 0))
            assert odd_plan.to_bytes()
            assert all(isinstance(each.start, int) for split in odd_plan.splits for each in split.ranges)
    assert refused > followed > 20

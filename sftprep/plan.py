"""What a build has to do: inputs, splits, options and the fingerprint of all that decides the bytes (plan.json)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from sftprep import FORMAT_VERSION, __version__
from sftprep.apart import run_apart
from sftprep.checksum import with_checksum, without_checksum
from sftprep.config import BuildConfig, fingerprint
from sftprep.conversations import Conversation, parse_conversation
from sftprep.errors import ConversationError, DatasetError, InputError, StorageError, TemplateError
from sftprep.fast_tokens import BegunTokenizer
from sftprep.inputs import PassedOver
from sftprep.limits import Item, LimitError
from sftprep.loaded import Loaded, load
from sftprep.manifest import MANIFEST, load_manifest
from sftprep.own_files import refuse_strangers, remove_folder, remove_own, remove_temporaries
from sftprep.shards import RECEIPTS, REJECTS
from sftprep.sources import SourceInfo, Split, find_sources, plan_splits, read_records
from sftprep.storage import folder_lock, make_folder, naming, publish_bytes
from sftprep.templates import probe, template_text

_log = logging.getLogger(__name__)

PLAN = "plan.json"
_MUCH = 1 << 30  # bytes: reading so much takes some seconds
_CHECKED_SHARE, _CHECKED_LEAST = 250, 200  # rows masked both ways: 1 in 250, at least 200


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the workers need to know, and the fingerprint of everything that decides the bytes."""

    config: BuildConfig
    sources: tuple[SourceInfo, ...]
    splits: tuple[Split, ...]
    tokenizer: dict[str, Any]  # what the manifest says of tokenizer and template
    fingerprint: str
    passed_over: tuple[PassedOver, ...] = ()  # files of the inputs' folders that are not read

    @property
    def records(self) -> int:
        """Lines of all inputs, an upper bound of their records."""
        return sum(source.records for source in self.sources)

    @property
    def check_every(self) -> int:
        """Every how many-th record is masked and tokenized both ways."""
        return max(1, min(_CHECKED_SHARE, self.records // _CHECKED_LEAST))

    def describe(self, item: Item) -> str:
        """Where the record of that place is: `file:line`."""
        source, line, _ = item
        return f"{self.sources[source].name}:{line}"

    def facts(self) -> dict[str, Any]:
        """What the fingerprint is made of and the manifest states."""
        inputs = [
            {"name": each.name, "bytes": each.bytes, "sha256": each.sha256, "records": each.records}
            for each in self.sources
        ]
        return {"config": self.config.content_options(), "inputs": inputs, "tokenizer": self.tokenizer}

    def to_bytes(self) -> bytes:
        """plan.json: also holds where inputs and tokenizer lie on this machine, which no dataset file does."""
        stated = {
            "format": "sftprep-plan",
            "version": FORMAT_VERSION,
            "sftprep": __version__,
            "fingerprint": self.fingerprint,
            "config": self.config.planned_options(),
            "tokenizer": self.tokenizer,
            "sources": [asdict(source) for source in self.sources],
            "splits": [asdict(split) for split in self.splits],
            "passed_over": [asdict(each) for each in self.passed_over],
        }
        return json.dumps(with_checksum(stated), indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Plan:
        """Raises DatasetError where the bytes are no plan this version can follow, or were changed."""
        try:
            stated = without_checksum(data)
            if (stated["format"], stated["version"], stated["sftprep"]) != (
                "sftprep-plan",
                FORMAT_VERSION,
                __version__,
            ):
                made = f"made by sftprep {stated['sftprep']}, this is {__version__}"
                raise DatasetError(f"{path}: {made}; use that version, or --overwrite")
            options = stated["config"]
            return cls(
                BuildConfig(**{**options, "inputs": tuple(options["inputs"])}),
                tuple(SourceInfo(**source) for source in stated["sources"]),
                tuple(Split.from_dict(split) for split in stated["splits"]),
                stated["tokenizer"],
                stated["fingerprint"],
                tuple(PassedOver(**each) for each in stated["passed_over"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise DatasetError(f"{path}: not a plan of sftprep, or it was changed; use --overwrite") from error


def make_plan(config: BuildConfig, tokenizer: BegunTokenizer | None = None) -> tuple[Plan, Loaded]:
    """Look at inputs and tokenizer and say what is to be done. Writes nothing.

    tokenizer: if it is known already. Raises InputError, TokenizerError, TemplateError or ConfigError where the job cannot
    be done.
    """
    found = find_sources(config.inputs, strict=config.strict)
    tokenizer = tokenizer or BegunTokenizer.of(config)
    resolved = tokenizer.resolved
    template = template_text(config, resolved)
    if "strftime_now" not in template:
        config = replace(config, date=None)
    elif config.date is None:
        config = replace(config, date=date.today().isoformat())
    try:
        controls = run_apart(partial(probe, config, resolved), what="the chat template")
    except LimitError as error:
        raise TemplateError(f"{error} on plain talk") from error
    size = sum(source.bytes for source in found.sources)
    if size >= _MUCH:
        _log.info("reading %s GB of input, to hash it and to cut it into splits", f"{size / 1e9:,.1f}")
    sources, splits = plan_splits(found.sources)
    if not sum(source.records for source in sources):
        raise InputError(f"{', '.join(config.inputs)}: no record in it")
    loaded = load(config, tokenizer, controls, first_conversations(config, sources, splits))
    config = replace(config, tokenizer_engine=loaded.engine.name)
    stated = {
        "sha256": resolved.sha256,
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "vocab_size": resolved.size,
        "pad_id": resolved.pad_id,
        **resolved.versions,
    }
    plan = Plan(config, tuple(sources), tuple(splits), stated, "", found.passed_over)
    return replace(plan, fingerprint=fingerprint(plan.facts())), loaded


def first_conversations(
    config: BuildConfig, sources: Sequence[SourceInfo], splits: Sequence[Split]
) -> Iterator[Conversation]:
    """The inputs' conversations from the start; records that cannot be used are passed over."""
    for split in splits:
        for record in read_records(split, sources):
            with suppress(ConversationError):
                yield parse_conversation(record.data, config.record_format)


def new_folder(folder: Path) -> Path:
    """Where a dataset is built that replaces the one in `folder`: beside it, on the same file system."""
    absolute = folder.absolute()
    return absolute.with_name(f".{absolute.name}.new")


def work_folder(folder: Path) -> Path:
    """Where the plan under way for `folder` is: in it, or beside it while an older dataset is replaced."""
    return new_folder(folder) if (new_folder(folder) / PLAN).exists() else folder


@contextmanager
def hold(folder: Path, *, create: bool = True) -> Iterator[None]:
    """Hold the lock of a folder to plan or build in it; with `create` it is made if there is none.

    Raises DatasetError, and has changed nothing, where there is neither a dataset nor a plan, but something else or, without
    `create`, nothing.
    """
    if not (folder / MANIFEST).exists() and not (work_folder(folder) / PLAN).exists():
        if not create:
            raise _no_plan(folder)
        refuse_strangers(folder, begun=False)
    with folder_lock(folder, create=create):
        yield


@contextmanager
def no_temporaries(folder: Path) -> Iterator[None]:
    """However the body ends, no temporary file is left in the folder, which is held."""
    try:
        yield
    finally:
        remove_temporaries(folder)


def adopt_plan(plan: Plan, folder: Path, *, overwrite: bool) -> Path | None:
    """Write plan.json, or find that it is there already. Call inside `hold`.

    Returns the folder to work in, or None where the dataset is complete. With `overwrite` a dataset, even the same one or
    a damaged one, is built anew beside the old. Raises DatasetError, and has changed nothing, where the folder holds
    another dataset or plan, naming what differs.
    """
    if (folder / MANIFEST).exists():
        if not overwrite:
            manifest = load_manifest(folder)
            if manifest.fingerprint == plan.fingerprint:
                clean_up(folder)
                remove_folder(new_folder(folder))
                return None
            old = {
                "config": manifest.config,
                "inputs": [asdict(each) for each in manifest.inputs],
                "tokenizer": manifest.tokenizer,
            }
            raise _refusal(folder, "holds a dataset made from", manifest.sftprep, old, plan)
        target = new_folder(folder)
        refuse_strangers(target)
    else:
        target = folder
    if overwrite:
        refuse_strangers(folder)
    path = target / PLAN
    if path.exists():
        with naming(path):
            old_plan = Plan.from_bytes(path.read_bytes(), path) if not overwrite else _plan_or_none(path)
        if old_plan and old_plan.fingerprint == plan.fingerprint:
            remove_temporaries(target)
            _make_folders(target)
            return target
        if not overwrite and old_plan:
            raise _refusal(folder, "holds an unfinished build with", __version__, old_plan.facts(), plan)
        _forget(target)
    elif target != folder:
        remove_folder(target)  # an older dataset that was replaced, but not yet removed when its build was killed
    else:
        refuse_strangers(folder, begun=False)
    make_folder(target)
    remove_temporaries(target)
    with no_temporaries(target):
        publish_bytes(path, plan.to_bytes())
    _make_folders(target)
    return target


def _make_folders(folder: Path) -> None:
    """After the plan, which tells that what else is in the folder belongs to sftprep."""
    make_folder(folder / RECEIPTS)
    make_folder(folder / REJECTS)


def _plan_or_none(path: Path) -> Plan | None:
    try:
        return Plan.from_bytes(path.read_bytes(), path)
    except DatasetError:
        return None


def _refusal(folder: Path, what: str, version: str, old: dict[str, Any], plan: Plan) -> DatasetError:
    """Name what differs between the plan and what is in the folder."""
    new = plan.facts()
    changed = [] if version == __version__ else [f"sftprep version ({version}, now {__version__})"]
    for name, value in new["config"].items():
        before = old["config"].get(name)
        if before != value:
            shown = "" if name == "chat_template" else f" ({before!r}, now {value!r})"
            changed.append(f"option {name.replace('_', '-')}{shown}")
    if old["tokenizer"] != new["tokenizer"]:
        changed.append("tokenizer or its template")
    old_inputs = {each["name"]: each["sha256"] for each in old["inputs"]}
    new_inputs = {each["name"]: each["sha256"] for each in new["inputs"]}
    names = sorted(old_inputs.keys() | new_inputs.keys())
    changed += [f"input {name}" for name in names if old_inputs.get(name) != new_inputs.get(name)]
    if not changed:
        changed.append("order of the inputs")
    return DatasetError(f"{folder}: {what} another {', '.join(changed)}; use --overwrite, or another folder")


def _forget(folder: Path) -> None:
    """Remove an unfinished build: receipts first, so that nobody takes the rest for work done. Its plan stays until
    another one takes its place."""
    for name in (RECEIPTS, REJECTS, "shard-*"):
        remove_own(folder, name)


def read_plan(folder: Path) -> Plan:
    """The plan in a folder. Raises DatasetError where there is none."""
    path = folder / PLAN
    try:
        return Plan.from_bytes(path.read_bytes(), path)
    except FileNotFoundError:
        raise _no_plan(folder) from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


def _no_plan(folder: Path) -> DatasetError:
    what = "no plan here; make one with `sftprep plan` or `sftprep build`" if folder.is_dir() else "no such folder"
    return DatasetError(f"{folder}: {what}")


def read_passed_over(folder: Path) -> tuple[PassedOver, ...]:
    """What the plan under way for `folder` passes over; nothing where there is none."""
    target = work_folder(folder)
    return read_plan(target).passed_over if (target / PLAN).exists() else ()


def clean_up(folder: Path) -> None:
    """Remove what only an unfinished build needs; its plan last."""
    remove_own(folder, RECEIPTS, REJECTS)
    remove_temporaries(folder)
    remove_own(folder, PLAN)

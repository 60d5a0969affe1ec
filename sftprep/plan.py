"""What a build has to do: inputs, splits, options and the fingerprint of all that decides the bytes (plan.json)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

from sftprep import __version__
from sftprep.config import FORMAT_VERSION, BuildConfig, fingerprint
from sftprep.conversations import Conversation, parse_conversation
from sftprep.errors import ConversationError, DatasetError, InputError, StorageError
from sftprep.fast_tokens import BegunTokenizer
from sftprep.loaded import Loaded, load
from sftprep.manifest import MANIFEST, load_manifest
from sftprep.shards import RECEIPTS, REJECTS
from sftprep.sources import SourceInfo, Split, find_sources, plan_splits, read_records
from sftprep.storage import (
    LOCK_NAME,
    folder_lock,
    make_folder,
    naming,
    publish_bytes,
    remove_folder,
    remove_temporaries,
)
from sftprep.templates import Templates, template_text

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

    @property
    def records(self) -> int:
        """Lines of all inputs, an upper bound of their records."""
        return sum(source.records for source in self.sources)

    @property
    def check_every(self) -> int:
        """Every how many-th record is masked and tokenized both ways."""
        return max(1, min(_CHECKED_SHARE, self.records // _CHECKED_LEAST))

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
            "config": asdict(self.config),
            "tokenizer": self.tokenizer,
            "sources": [asdict(source) for source in self.sources],
            "splits": [asdict(split) for split in self.splits],
        }
        return json.dumps(stated, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Plan:
        """Raises DatasetError where the bytes are no plan this version can follow."""
        try:
            stated = json.loads(data)
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
            )
        except (ValueError, TypeError, KeyError) as error:
            raise DatasetError(f"{path}: not a plan of sftprep") from error


def make_plan(config: BuildConfig, tokenizer: BegunTokenizer | None = None) -> tuple[Plan, Loaded]:
    """Look at inputs and tokenizer and say what is to be done. Writes nothing.

    tokenizer: if it is known already. Raises InputError, TokenizerError, TemplateError or ConfigError where the job cannot
    be done.
    """
    found = find_sources(config.inputs, strict=config.strict)
    size = sum(source.bytes for source in found.sources)
    if size >= _MUCH:
        _log.info("reading %s GB of input, to hash it and to cut it into splits", f"{size / 1e9:,.1f}")
    tokenizer = tokenizer or BegunTokenizer.of(config)
    resolved = tokenizer.resolved
    template = template_text(config, resolved)
    if "strftime_now" not in template:
        config = replace(config, date=None)
    elif config.date is None:
        config = replace(config, date=date.today().isoformat())
    planned = cache(partial(plan_splits, found.sources))
    loaded = load(config, tokenizer, lambda templates: _texts(templates, config, planned))
    sources, splits = planned()
    if not sum(source.records for source in sources):
        raise InputError(f"{', '.join(config.inputs)}: no record in it")
    config = replace(config, tokenizer_engine=loaded.engine.name)
    stated = {
        "sha256": resolved.sha256,
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "vocab_size": resolved.size,
        "pad_id": resolved.pad_id,
        **resolved.versions,
    }
    plan = Plan(config, tuple(sources), tuple(splits), stated, "")
    return replace(plan, fingerprint=fingerprint(plan.facts())), loaded


def first_conversations(
    config: BuildConfig, sources: Sequence[SourceInfo], splits: Sequence[Split]
) -> Iterator[Conversation]:
    """The inputs' conversations from the start; records that cannot be used are passed over."""
    for split in splits:
        for record in read_records(split, sources):
            with suppress(ConversationError):
                yield parse_conversation(record.data, config.record_format)


def _texts(
    templates: Templates, config: BuildConfig, planned: Callable[[], tuple[list[SourceInfo], list[Split]]]
) -> Iterator[str]:
    """The first conversations' texts. The inputs are planned when the first one is asked for."""
    for conversation in first_conversations(config, *planned()):
        with suppress(ConversationError):
            yield templates.replay(conversation)[0]


def new_folder(folder: Path) -> Path:
    """Where a dataset is built that replaces the one in `folder`: beside it, on the same file system."""
    absolute = folder.absolute()
    return absolute.with_name(f".{absolute.name}.new")


def work_folder(folder: Path) -> Path:
    """Where the plan under way for `folder` is: in it, or beside it while an older dataset is replaced."""
    return new_folder(folder) if (new_folder(folder) / PLAN).exists() else folder


@contextmanager
def hold(folder: Path, *, create: bool = True) -> Iterator[None]:
    """Hold a folder's lock to plan, build or commit in it; however that ends, no temporary file is left."""
    with folder_lock(folder, create=create):
        try:
            yield
        finally:
            remove_temporaries(work_folder(folder))


def adopt_plan(plan: Plan, folder: Path, *, overwrite: bool) -> Path | None:
    """Write plan.json, or find that it is there already. Call with the folder's lock held.

    Returns the folder to work in, or None where the dataset is complete. With `overwrite` a dataset, even the same one or
    a damaged one, is built anew beside the old. Raises DatasetError where the folder holds something else: another
    dataset or plan (naming what differs), or files that are not sftprep's.
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
    else:
        target = folder
    path = target / PLAN
    if target != folder and not path.exists():
        remove_folder(target)  # an older dataset that was replaced, but not yet removed when its build was killed
    make_folder(target)
    remove_temporaries(target)
    if path.exists():
        with naming(path):
            old_plan = Plan.from_bytes(path.read_bytes(), path) if not overwrite else _plan_or_none(path)
        if old_plan and old_plan.fingerprint == plan.fingerprint:
            _make_folders(target)
            return target
        if not overwrite and old_plan:
            raise _refusal(folder, "holds an unfinished build with", __version__, old_plan.facts(), plan)
        _forget(target)
    elif strangers := sorted(each.name for each in target.iterdir() if each.name != LOCK_NAME):
        raise DatasetError(f"{folder}: not empty and no dataset of sftprep (it holds {strangers[0]})")
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
    another one takes its place: without it, what is left after a crash would be a stranger's."""
    for name in (RECEIPTS, REJECTS):
        remove_folder(folder / name)
    with naming(folder):
        for path in folder.glob("shard-*"):
            path.unlink()


def read_plan(folder: Path) -> Plan:
    """The plan in a folder. Raises DatasetError where there is none."""
    path = folder / PLAN
    try:
        return Plan.from_bytes(path.read_bytes(), path)
    except FileNotFoundError:
        raise DatasetError(f"{folder}: no plan here; make one with `sftprep plan` or `sftprep build`") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


def clean_up(folder: Path) -> None:
    """Remove what only an unfinished build needs."""
    with naming(folder):
        (folder / PLAN).unlink(missing_ok=True)
    for name in (RECEIPTS, REJECTS):
        remove_folder(folder / name)
    remove_temporaries(folder)

"""What a build is asked to do: options from the command line or a TOML file, checked and frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from sftprep import FORMAT_VERSION, __version__
from sftprep.containers.record import MAX_RECORD, RECORD_KEYS, Selection
from sftprep.errors import ConfigError, InputError
from sftprep.layouts.kinds import LAYOUTS, OVERFLOWS
from sftprep.masks.kinds import MASKS, MaskKind
from sftprep.masks.train_on import TrainOn
from sftprep.records.forms import FORMS
from sftprep.records.messages import CALLING, ROLES, Reading
from sftprep.sets.augment import Augmentation
from sftprep.stores.kinds import STORES, scheme_of
from sftprep.workers.runners import RUNNERS

CONTROL_TOKENS = ("split", "reject", "allow")
TOOL_ARGUMENTS = ("auto", "as-is", "object")
CONTEXTS = ("whole", "served")
ON_UNPRINTED = ("count", "reject")
TOKENIZER_ENGINES = ("auto", "fast", "hf")
DEFAULT_MAX_LENGTH = 1024
MOST_LEVELS = 100  # of a value, as of a record
MOST_TEMPLATE = 1 << 20  # characters; published ones have up to 30,000
CALL_OPTIONS = frozenset(  # never those of an earlier call
    {"strict", "input_name", "trust_remote_code", "workers", "engine", "on_error", "max_rejects"}
)
# Options that change how the work is done but not one byte of the result.
_EXECUTION_OPTIONS = CALL_OPTIONS | {"inputs", "validation_input", "tokenizer", "tokenizer_engine"}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a call puts up with: options of its own, never of an earlier one."""

    on_error: str = "reject"
    max_rejects: str | None = None

    def check(self, totals: Mapping[str, int], why: object) -> None:
        """Raise InputError, which points to `why`, where more records were rejected than that."""
        rejected, records = totals["rejected"], totals["records"]
        if self.on_error == "stop" and rejected:
            raise InputError(f"{rejected:,} of {records:,} records rejected, and --on-error is stop; {why} says why")
        limit = reject_limit(self.max_rejects, records)
        if limit is not None and rejected > limit:
            raise InputError(f"{rejected:,} of {records:,} records rejected, more than {limit:,}; {why} says why")


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """All options of a build. `max_length` is in tokens of a conversation: rows are `max_length - 1` wide."""

    inputs: tuple[str, ...]
    tokenizer: str
    chat_template: str | None = None  # the text of the template, not its path
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    record_format: str = "auto"
    max_record_bytes: int = MAX_RECORD  # of a line, an array's element or a row as JSON; a longer one is rejected
    messages_key: str | None = None  # of a record: where its messages are
    role_map: dict[str, str] = field(default_factory=dict)  # names of roles -> known ones
    keep_calls_apart: bool = False
    by: str | None = None  # a record's key beside its conversation whose value is kept as its group
    max_length: int | None = None  # None: DEFAULT_MAX_LENGTH, or in ragged rows no limit
    layout: str = "padded"
    overflow: str = "truncate"  # what becomes of a longer conversation
    mask: str = "turns"
    scan_header: str | None = None
    scan_end: str | None = None
    scan_start_offset: int = 0
    scan_end_offset: int = 0
    header: str | None = None
    end_of_turn: str | None = None
    train_on: str = "assistant"
    train_end_of_turn: bool = True
    keep_untrained: bool = False
    limit: int | None = None  # of the inputs' records only so many, from the first on
    control_tokens: str = "split"
    tool_arguments: str = "auto"
    contexts: str = "whole"
    on_unprinted: str = "count"
    validation: str | None = None  # the share of conversations that go into a second set, such as "1%"
    validation_input: tuple[str, ...] = ()  # or inputs that do
    deduplicate: bool = False
    system_prompts: list[str] = field(
        default_factory=list
    )  # of which one is added to some conversations of the training set
    system_prompt_ratio: float = 0.2  # of those that have neither a system prompt nor tools
    drop_empty_think: float = 0.0  # of the training set's conversations: the share that loses empty thinking
    seed: int = 0  # of what is drawn
    date: str | None = None  # YYYY-MM-DD that the template's strftime_now sees; None where the template asks for none
    trust_remote_code: bool = False
    tokenizer_engine: str = "auto"
    workers: int = 1
    engine: str = "local"  # who runs the workers
    on_error: str = "reject"
    max_rejects: str | None = None
    input_name: str = "stdin.jsonl"  # of standard input, which is the input "-"; its suffix says what is in it
    strict: bool = False  # refuse folders and globs with files in them that are not read

    def __post_init__(self) -> None:
        if self.max_length is None and self.layout != "ragged":
            object.__setattr__(self, "max_length", DEFAULT_MAX_LENGTH)
        self._check_values()
        for given in self.inputs:
            if (scheme := scheme_of(given)) not in STORES:
                raise ConfigError(f"{given}: inputs behind {scheme}:// cannot be read yet; give files on this machine")
        _one_of("--mask", self.mask, MASKS)
        _one_of("--control-tokens", self.control_tokens, CONTROL_TOKENS)
        _one_of("--tool-arguments", self.tool_arguments, TOOL_ARGUMENTS)
        _one_of("--contexts", self.contexts, CONTEXTS)
        _one_of("--on-unprinted", self.on_unprinted, ON_UNPRINTED)
        _one_of("--tokenizer-engine", self.tokenizer_engine, TOKENIZER_ENGINES)
        _one_of("--format", self.record_format, ("auto", *FORMS))
        if self.messages_key is not None and self.record_format not in ("auto", "messages"):
            raise ConfigError(f"--messages-key belongs to --format messages, not to --format {self.record_format}")
        for name, role in self.role_map.items():
            if role not in (*ROLES, CALLING) or type(name) is not str:
                raise ConfigError(f"--role-map {name}={role}: expected NAME=ROLE, of {', '.join((*ROLES, CALLING))}")
        if self.by is not None and self.by in self.selection.keys:
            raise ConfigError(
                f"--by {self.by}: conversations are read from this key; a group is named by one beside them"
            )
        _one_of("--layout", self.layout, LAYOUTS)
        _one_of("--engine", self.engine, RUNNERS)
        _one_of("--on-error", self.on_error, ("reject", "stop"))
        _one_of("--overflow", self.overflow, OVERFLOWS)
        if self.max_length is not None and self.max_length < 2:
            raise ConfigError(f"--max-length {self.max_length}: a target needs at least 2 tokens")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit}: at least 1")
        if self.max_record_bytes < 1:
            raise ConfigError(f"--max-record-bytes {self.max_record_bytes}: at least 1")
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers}: at least 1")
        for name in sorted(frozenset().union(*(kind.options for kind in MASKS.values())) - self.mask_kind.options):
            if getattr(self, name) != self.__dataclass_fields__[name].default:
                takers = " or ".join(kind for kind, each in MASKS.items() if name in each.options)
                raise ConfigError(f"--{name.replace('_', '-')} belongs to --mask {takers}, not to --mask {self.mask}")
        TrainOn.parse(self.train_on)
        reject_limit(self.max_rejects, 0)
        for flag, share in (
            ("system-prompt-ratio", self.system_prompt_ratio),
            ("drop-empty-think", self.drop_empty_think),
        ):
            if not 0 <= share <= 1:
                raise ConfigError(f"--{flag} {share:g}: expected a share from 0 to 1")
        if self.validation is not None and self.validation_input:
            raise ConfigError("--validation and --validation-input both name a validation set; give one of them")
        if "-" in self.validation_input:
            raise ConfigError("--validation-input -: standard input can be read as an INPUT only; save it as a file")
        _ = self.validation_share

    def _check_values(self) -> None:
        """Values may come from a manifest, or a program. Raises ConfigError for any that no option has."""
        for name, kinds in _kinds().items():
            value = getattr(self, name)
            if type(value) not in kinds:
                raise ConfigError(f"{name} is of type {type(value).__name__}; expected {kinds[0].__name__}")
            if name in _EXECUTION_OPTIONS:
                continue
            try:
                json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
                deep = _levels(value) > MOST_LEVELS
            except (ValueError, TypeError):
                what = "text that is not UTF-8, or a number that is not finite"
                raise ConfigError(f"{name} has {what}, which no manifest can hold") from None
            except RecursionError:
                deep = True
            if deep:
                raise ConfigError(f"{name} is nested deeper than {MOST_LEVELS} levels")
        if self.chat_template is not None and len(self.chat_template) > MOST_TEMPLATE:
            raise ConfigError(
                f"a chat template of {len(self.chat_template):,} characters; expected {MOST_TEMPLATE:,} at most"
            )
        if self.date is not None:
            try:
                date.fromisoformat(self.date)
            except ValueError:
                raise ConfigError(f"--date {self.date}: expected YYYY-MM-DD") from None

    @property
    def validation_share(self) -> float:
        """Of the conversations, those that go into the validation set: 0.01 is 1%. Raises ConfigError."""
        if self.validation is None:
            return 0.0
        text = self.validation.strip()
        with suppress(ValueError):
            share = float(text.removesuffix("%")) / 100
            if text.endswith("%") and 0 < share < 1:
                return share
        raise ConfigError(f"--validation {self.validation}: expected a share between 0% and 100%, such as 1%")

    @property
    def augmentation(self) -> Augmentation:
        """What is varied in the training set."""
        return Augmentation(self.seed, self.system_prompts, self.system_prompt_ratio, self.drop_empty_think)

    @property
    def has_validation(self) -> bool:
        """Whether a validation set was asked for."""
        return self.validation is not None or bool(self.validation_input)

    @property
    def mask_kind(self) -> MaskKind:
        """What the mask needs."""
        return MASKS[self.mask]

    @property
    def trained(self) -> TrainOn:
        """Whose messages are trained."""
        return TrainOn.parse(self.train_on)

    @property
    def reading(self) -> Reading:
        """How records are read."""
        return Reading(self.record_format, self.messages_key, self.role_map, self.keep_calls_apart, self.by)

    @property
    def tolerance(self) -> Tolerance:
        """What this call puts up with."""
        return Tolerance(self.on_error, self.max_rejects)

    @property
    def selection(self) -> Selection:
        """What is read of a file."""
        return Selection(self.max_record_bytes, RECORD_KEYS | {self.messages_key or "messages"}, self.by)

    @property
    def width(self) -> int:
        """Columns of X, Y and mask; 0 in `ragged`, which has none."""
        return 0 if self.layout == "ragged" or self.max_length is None else self.max_length - 1

    def content_options(self) -> dict[str, Any]:
        """The options that decide the bytes of the dataset; they are written into its manifest."""
        return {name: value for name, value in asdict(self).items() if name not in _EXECUTION_OPTIONS}

    def planned_options(self) -> dict[str, Any]:
        """The options that are kept from one call to the next: in plan.json."""
        return {name: value for name, value in asdict(self).items() if name not in CALL_OPTIONS}


def _levels(value: Any) -> int:
    """Of lists and dictionaries in each other."""
    inside = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_levels, inside), default=0) if isinstance(value, (dict, list)) else 0


@cache
def _kinds() -> dict[str, tuple[type, ...]]:
    """What type each option may have."""
    hints = get_type_hints(BuildConfig)
    given = {name: get_args(hint) if isinstance(hint, UnionType) else (hint,) for name, hint in hints.items()}
    return {name: tuple(get_origin(kind) or kind for kind in kinds) for name, kinds in given.items()}


def fingerprint(facts: dict[str, Any]) -> str:
    """Hex sha256 over everything that decides the bytes: options, inputs, tokenizer, format and program version."""
    stated = {"format": FORMAT_VERSION, "sftprep": __version__, **facts}
    return hashlib.sha256(json.dumps(stated, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def reject_limit(max_rejects: str | None, records: int) -> int | None:
    """`--max-rejects` as a number of records: "20" is 20, "0.5%" of `records` rounded down, None is no limit."""
    if max_rejects is None:
        return None
    from decimal import Decimal  # exact: 0.57 % of 10,000 is 57, and floats make 56 of it

    text = max_rejects.strip()
    with suppress(ValueError, ArithmeticError):
        limit = Decimal(text[:-1]) * records / 100 if text.endswith("%") else Decimal(int(text))
        if limit >= 0:
            return int(limit)
    raise ConfigError(f"--max-rejects {max_rejects!r}: expected a number such as 20, or a share such as 0.5%")


def template_value(text: str) -> Any:
    """The value in `--template-kwarg name=value`: JSON where it parses (false, 3, "x", [1]), else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)


def _one_of(option: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{option} {value}: expected one of {', '.join(choices)}")

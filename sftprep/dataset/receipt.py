"""What one split leaves when it is done: counts, the records that are in no shard, and which files hold the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from sftprep.checksum import Count, Hash, with_checksum, without_checksum
from sftprep.dataset.manifest import SET_TOTALS
from sftprep.errors import StorageError
from sftprep.unread import Unread

RECEIPTS = "receipts"
REJECTS_FOLDER = "rejects"
KEYS = "keys"  # of conversations, and of what is found by them
REJECT_KINDS = {  # why a record is in no shard, and which of the totals counts it
    "rejected": "rejected",  # by a fault of its own
    "dropped": "dropped",  # because nothing of it would be trained
    "duplicate": "duplicates",  # because another record says the same
}
ShardName = Annotated[str, msgspec.Meta(pattern=r"^(?:shard|validation)-[0-9]{5,}\Z")]
FilePart = Annotated[str, msgspec.Meta(pattern=r"^(?:X|Y|mask|segments|provenance|keys)\Z")]
FileFacts = tuple[Count, Hash]  # bytes, and hex sha256


class Reject(NamedTuple):
    """A record that is in no shard, and why. Holds no message text."""

    place: tuple[int, int, int]  # `Record.place`
    kind: str  # of REJECT_KINDS
    reason: str
    repeats: str | None = None  # of a duplicate: `file:line` of the record that stays
    group: str | None = None  # by the key of --by, where that is known
    tokens_in_all: int | None = None  # of a conversation that is dropped because it is longer than a row

    def to_bytes(self, source_names: Sequence[str]) -> bytes:
        """Its line in rejects.jsonl."""
        source, line, offset = self.place
        stated = {"source": source_names[source], "line": line, "byte_offset": offset}
        stated |= {"kind": self.kind, "reason": self.reason}
        stated |= {} if self.repeats is None else {"repeats": self.repeats}
        stated |= {} if self.group is None else {"group": self.group}
        stated |= {} if self.tokens_in_all is None else {"tokens_in_all": self.tokens_in_all}
        return json.dumps(stated, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


@dataclass(slots=True)
class Totals:
    """What a split or a dataset holds, in numbers. records = conversations + dropped + rejected + duplicates. A conversation
    is trained as one example, or as several with `--contexts served`."""

    records: int = 0
    conversations: int = 0
    rows: int = 0
    tokens: int = 0  # ids kept, pads not counted
    trained_tokens: int = 0  # targets with a mask above 0
    truncated: int = 0  # examples cut to the maximal length
    dropped: int = 0  # conversations without a trained token
    rejected: int = 0
    duplicates: int = 0  # records that say the same as another, which stays
    near_copies: int = (
        0  # conversations of the training set that are in the validation set but for white space and case
    )
    control_text: int = 0  # conversations whose text spells a control token, rejected ones included
    by_characters: int = 0  # conversations masked by character offsets because the fast way did not add up
    boundary_tokens: int = 0  # tokens that hold both header and answer; not trained
    empty_turns: int = 0  # turns that have something to say of which the template prints nothing; not trained
    unended_turns: int = (
        0  # turns whose last trained token is no control token: no end-of-turn token is learned of them
    )
    adapted: int = 0  # conversations that the template was given in another variant than their own
    examples: int = 0
    system_added: int = 0  # conversations that have a system prompt of --system-prompt-file
    dropped_examples: int = 0  # of conversations: without a trained token
    other_context: int = 0  # turns trained in another context than they are asked for in, or as another text
    unknown_context: int = 0  # turns that it would have taken too long to know that of
    dropped_reasoning: int = 0  # turns of which the template prints the reasoning only while they come last
    # Messages of which the template leaves something out, by kind (`said.KINDS`); of lists of tools, conversations.
    unprinted_reasoning: int = 0
    unprinted_tool_calls: int = 0
    unprinted_tool_results: int = 0
    unprinted_tools: int = 0
    unprinted_system: int = 0
    unprinted_developer: int = 0
    unprinted_user: int = 0
    unprinted_assistant: int = 0
    unprinted_names: int = 0

    def add(self, other: Totals) -> None:
        """Add another split's numbers to these."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True, slots=True)
class ShardPart:
    """What a split has put into one shard; without rows there are no files."""

    files: dict[FilePart, FileFacts]
    totals: dict[str, Count]  # SET_TOTALS


@dataclass(frozen=True, slots=True)
class ShardReceipt:
    """Proof that one split is done: what was published under which size and hash."""

    task: Count
    fingerprint: Hash
    shards: dict[ShardName, ShardPart]  # of each set that the split has conversations for
    rejects: FileFacts | None = None
    totals: Totals = field(default_factory=Totals)
    unread: Unread = field(default_factory=Unread)

    def to_bytes(self) -> bytes:
        """Compact JSON, about 1 kB a shard without the names of keys: those take 25 bytes each as a rule, of at most
        2 * `unread.MOST_NAMES`."""
        shards = {name: asdict(part) for name, part in self.shards.items()}
        stated = {"task": self.task, "fingerprint": self.fingerprint, "shards": shards, "rejects": self.rejects}
        stated["unread"] = asdict(self.unread)
        numbers = [getattr(self.totals, each.name) for each in fields(Totals)]
        return json.dumps(with_checksum({**stated, "totals": numbers}), separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ShardReceipt:
        """Raises ValueError or TypeError where the bytes are no receipt, or were changed."""
        stated = without_checksum(data)
        totals = Totals(*msgspec.convert(stated.pop("totals", None), list[Count]))
        receipt = replace(msgspec.convert(stated, cls), totals=totals)
        if any(part.totals.keys() != {*SET_TOTALS} for part in receipt.shards.values()):
            raise ValueError("its shards have other totals")
        return receipt

    def files(self, folder: Path) -> dict[Path, FileFacts]:
        """Where the receipt's files lie in `folder`, with size and hash of each."""
        found = {
            shard_file(folder, name, kind): facts
            for name, part in self.shards.items()
            for kind, facts in part.files.items()
        }
        return found if self.rejects is None else {**found, rejects_path(folder, self.task): self.rejects}


def shard_file(folder: Path, name: str, kind: str) -> Path:
    """The final place of one of a shard's files; keys wait in a folder of their own for the commit to look through them."""
    if kind == KEYS:
        return folder / KEYS / f"{name}.keys"
    suffix = "parquet" if kind == "provenance" else "npy"
    return folder / f"{name}.{kind}.{suffix}"


def rejects_path(folder: Path, task: int) -> Path:
    """Where a split's rejects wait for the commit to join them."""
    return folder / REJECTS_FOLDER / f"{task:05d}.jsonl"


def receipt_path(folder: Path, task: int) -> Path:
    """Where a split's receipt lies."""
    return folder / RECEIPTS / f"{task:05d}.json"


def read_receipt(folder: Path, task: int, fingerprint: str) -> ShardReceipt | None:
    """The receipt of a split, or None where there is none, or none of this plan."""
    try:
        receipt = ShardReceipt.from_bytes(receipt_path(folder, task).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{receipt_path(folder, task)}: {error.strerror}") from error
    except (ValueError, TypeError):
        return None
    return receipt if (receipt.task, receipt.fingerprint) == (task, fingerprint) else None

"""What one split leaves when it is done: counts, the records that are in no shard, and which files hold the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from sftprep.checksum import Count, Hash, with_checksum, without_checksum
from sftprep.errors import StorageError
from sftprep.unread import Unread

RECEIPTS = "receipts"
REJECTS_FOLDER = "rejects"
REJECT_KINDS = ("rejected", "dropped")  # by a fault of its own; because nothing of it would be trained
FilePart = Annotated[str, msgspec.Meta(pattern=r"^(?:X|Y|mask|segments|provenance|rejects)\Z")]


class Reject(NamedTuple):
    """A record that is in no shard, and why. Holds no message text."""

    place: tuple[int, int, int]  # `Record.place`
    kind: str  # of REJECT_KINDS
    reason: str

    def to_bytes(self, source_names: Sequence[str]) -> bytes:
        """Its line in rejects.jsonl."""
        source, line, offset = self.place
        stated = {"source": source_names[source], "line": line, "byte_offset": offset}
        stated |= {"kind": self.kind, "reason": self.reason}
        return json.dumps(stated, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


@dataclass(slots=True)
class Totals:
    """What a split or a dataset holds, in numbers. records = conversations + dropped + rejected. A conversation is trained as
    one example, or as several with `--contexts served`."""

    records: int = 0
    conversations: int = 0
    rows: int = 0
    tokens: int = 0  # ids kept, pads not counted
    trained_tokens: int = 0  # targets with a mask above 0
    truncated: int = 0  # examples cut to the maximal length
    dropped: int = 0  # conversations without a trained token
    rejected: int = 0
    control_text: int = 0  # conversations whose text spells a control token, rejected ones included
    by_characters: int = 0  # conversations masked by character offsets because the fast way did not add up
    boundary_tokens: int = 0  # tokens that hold both header and answer; not trained
    empty_turns: int = 0  # turns that have something to say of which the template prints nothing; not trained
    unended_turns: int = (
        0  # turns whose last trained token is no control token: no end-of-turn token is learned of them
    )
    adapted: int = 0  # conversations that the template was given in another variant than their own
    examples: int = 0
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
class ShardReceipt:
    """Proof that one split is done: what was published under which size and hash. `files` is empty without rows."""

    task: Count
    fingerprint: Hash
    files: dict[FilePart, tuple[Count, Hash]]
    totals: Totals = field(default_factory=Totals)
    unread: Unread = field(default_factory=Unread)

    def to_bytes(self) -> bytes:
        """Compact JSON, less than 1 kB without the names of keys: those take 25 bytes each as a rule, of at most
        2 * `unread.MOST_NAMES`."""
        stated = {
            "task": self.task,
            "fingerprint": self.fingerprint,
            "files": self.files,
            "unread": asdict(self.unread),
        }
        numbers = [getattr(self.totals, each.name) for each in fields(Totals)]
        return json.dumps(with_checksum({**stated, "totals": numbers}), separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ShardReceipt:
        """Raises ValueError or TypeError where the bytes are no receipt, or were changed."""
        stated = without_checksum(data)
        totals = Totals(*msgspec.convert(stated.pop("totals", None), list[Count]))
        return replace(msgspec.convert(stated, cls), totals=totals)

    def paths(self, folder: Path) -> dict[str, Path]:
        """Where the receipt's files lie in `folder`, by kind."""
        return {kind: file_path(folder, self.task, kind) for kind in self.files}


def shard_name(task: int) -> str:
    """The stem of a split's files: shard-00017."""
    return f"shard-{task:05d}"


def file_path(folder: Path, task: int, kind: str) -> Path:
    """The final place of one of a split's files; rejects wait in a folder of their own for the commit to join them."""
    if kind == REJECTS_FOLDER:
        return folder / REJECTS_FOLDER / f"{task:05d}.jsonl"
    suffix = "parquet" if kind == "provenance" else "npy"
    return folder / f"{shard_name(task)}.{kind}.{suffix}"


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

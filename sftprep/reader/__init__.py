"""In: a dataset's folder. Does: maps its shards. Out: rows, as a torch Dataset, and batches of them. Needs torch and numpy only.

To others: `ShardDataset`, `PackedDataset`, `Collator`, `ResumableSampler`.
"""

try:
    from sftprep.reader.collate import Collator
    from sftprep.reader.dataset import ShardDataset
    from sftprep.reader.packed import PackedDataset
    from sftprep.reader.sample import ResumableSampler
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    what = "sftprep.reader needs torch: pip install 'sftprep[torch]', or torch by itself"
    raise ModuleNotFoundError(what, name="torch") from None

__all__ = ["Collator", "PackedDataset", "ResumableSampler", "ShardDataset"]

"""In: a dataset's folder. Does: maps its shards. Out: rows, as a torch Dataset. Needs torch and numpy only.

To others: `ShardDataset`, `ResumableSampler`.
"""

from sftprep.reader.dataset import ShardDataset
from sftprep.reader.sample import ResumableSampler

__all__ = ["ResumableSampler", "ShardDataset"]

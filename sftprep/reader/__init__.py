"""In: a dataset's folder. Does: maps its shards. Out: rows, as a torch Dataset. Needs torch and numpy only.

To others: `ShardDataset`.
"""

from sftprep.reader.dataset import ShardDataset

__all__ = ["ShardDataset"]

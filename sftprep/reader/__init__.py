"""In: a dataset's folder. Does: maps its shards. Out: rows, as a torch Dataset. Needs torch and numpy only.

To others: `ShardDataset`.
"""

try:
    from sftprep.reader.dataset import ShardDataset
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    what = "sftprep.reader needs torch: pip install 'sftprep[torch]', or torch by itself"
    raise ModuleNotFoundError(what, name="torch") from None

__all__ = ["ShardDataset"]

"""Chat data to training shards, once: exact ids, true loss masks, memory-mapped X, Y and mask."""

__version__ = "0.1.0"
FORMAT_VERSION = 2  # of datasets, plans and receipts

"""In: what inputs name. Does: finds files, tells how records lie in them, cuts them into splits, reads. Out: Records, as bytes.

To others: `files.find_sources`, `splits` (cut, read), `record` (Record, Selection), `kinds.KINDS`.
"""

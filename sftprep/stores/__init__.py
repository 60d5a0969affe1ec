"""In: what an input names: a path, a folder, a glob, or an address. Does: lists the files there, tells their sizes, opens them.
Out: Found, open files.

To others: `kinds.store_of`, `types.Found`.
"""

"""In: a dataset's folder. Does: takes its conversations out of the rows, and writes them as another trainer reads them.
Out: a folder in that form.

To others: `kinds.EXPORTS`, `export.export_dataset`.
"""

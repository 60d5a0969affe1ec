"""In: records. Does: text, ids and mask, the fast way first, and both ways for a sample. Out: rows, and why a record gives none.

To others: `toolbox.load`, `prepare.Preparer`, `templates.probe` and `template_text`.
"""

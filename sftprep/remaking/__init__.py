"""In: records, options of a build. Does: makes rows of them as a build does, and says why a target is trained. Out: rows, reasons.

To others: `preview.Preview`, `maker.maker_of` and `record_of`, `reasons.Reasons`. Nothing is written here.
"""

"""In: a dataset, and another one or another program's way. Does: finds where ids and masks differ, conversation by conversation.
Out: a Comparison.

To others: `datasets.compare_datasets`, `kinds.AGAINST`, `findings.Comparison`. Nothing is drawn here.
"""

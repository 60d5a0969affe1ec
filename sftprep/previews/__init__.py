"""In: options, inputs, a tokenizer. Does: finds out what would come of them, and writes nothing. Out: counts, and facts.

To others: `dry_run.count_dataset`, `explain.explain`, `examine_template.examine_template`.
"""

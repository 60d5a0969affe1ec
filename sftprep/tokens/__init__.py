"""In: the name of a tokenizer, texts. Does: asks Transformers what it is, proves the fast engine equal. Out: ids.

To others: `resolve.Resolving`, `load_early.begin_tokenizer`, `choose_engine.choose_engine`, `engines`, `batch.TokenBatch`.
"""

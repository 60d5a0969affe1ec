"""In: ids, with places in the text or counts of control tokens. Does: says which of them are trained. Out: a mask a token.

To others: `kinds.MASKS`, and a room for each way to find a mask: `by_controls`, `spans`, `generation`, `scan`.
"""

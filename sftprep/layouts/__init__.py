"""In: a batch's ids and mask. Does: lays conversations out in rows, and says what such rows must satisfy. Out: Rows.

To others: `kinds.LAYOUTS`, `types.Rows`.
"""

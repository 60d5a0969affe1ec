"""In: a dataset, which may be damaged. Does: takes conversations out of its rows, and gives ids the text that they stand for.
Out: conversations, and pieces of text.

To others: `conversations.load_rows`, `pieces.pieces`, `pieces.open_decoder`.
"""

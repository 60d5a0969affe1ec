"""In: a dataset, which may be damaged. Does: chooses conversations in its rows, and gives ids the text that they stand for.
Out: conversations, and pieces of text.

To others: `conversations.load_rows` and `OpenSet`, `choosing.choose`, `pieces.pieces`, `pieces.open_decoder`, `spelling.Spelling`.
"""

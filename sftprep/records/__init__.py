"""In: names of files. Does: finds them, cuts them into splits, reads records, brings each into one schema. Out: Conversations.

To others: `splits` (find, cut, read), `conversation.parse_conversation`, `forms.FORMS`, `kinds.KINDS`.
"""

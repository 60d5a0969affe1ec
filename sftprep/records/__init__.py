"""In: the bytes of a record. Does: tells its form, brings it into one schema. Out: Conversations.

To others: `conversation.parse_conversation`, `forms.FORMS`, `said`.
"""

"""In: a chat template, a conversation. Does: runs it, and tells whose text is whose. Out: text, trained spans, control tokens.

To others: `chat_template.ChatTemplate`, `turns` (what it gives), `probes` (conversations to try a template with).
"""

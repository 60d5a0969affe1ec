"""In: the text of a chat template. Does: compiles it so that a run says what it prints for which message. Out: MarkedText.

To others: `compiled.CompiledTemplate`, `message_marks` (what a run says), `written_text` (whose texts are), `sandbox.Sandbox`, `reasons.reason_of`.
"""

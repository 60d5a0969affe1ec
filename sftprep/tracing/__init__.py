"""In: a CompiledTemplate, a conversation. Does: runs it over stand-ins, writes down what it does. Out: what it prints, as steps.

To others: `recorder.RecordingTemplate`, `steps.Recording`, and `decision_tree.Tree`, which repeats what was recorded.
"""

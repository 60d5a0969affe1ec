"""In: a ChatTemplate, conversations. Does: records a run once a shape of conversation, proves it for all, repeats it. Out: texts.

To others: `replay_template.ReplayTemplate`. A conversation that no recording fits is rendered by Jinja.
"""

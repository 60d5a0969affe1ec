"""In: a ChatTemplate, conversations. Does: records what a run does once a shape of conversation, proves it, repeats it. Out: texts.

To others: `replay_template.ReplayTemplate`. A conversation that no recording fits is rendered by Jinja.
"""

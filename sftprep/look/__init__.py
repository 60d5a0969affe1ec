"""In: a dataset, a template, an input. Does: shows them to people, on a terminal. Out: text, in colour where it helps.

To others: `inspect.show_rows`, `stats.show_stats`, `template.show_template`, `explain.show_explanation`. Only here and in `watch` is rich
imported.
"""

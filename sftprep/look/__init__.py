"""In: a dataset, a job under way. Does: shows them to people, on a terminal. Out: text, in colour where it helps.

To others: `build.watched_build`, `summary.show_summary`, `rows.show_rows`, `verify.verify_command`, `explain.show_explanation`. Only
here is rich imported.
"""

"""In: tasks. Does: has them done by processes that may die, hang or be bounded. Out: done tasks, or why not.

To others: `runners.RUNNERS`, `worker` (what passes between), `trial.run_apart`, `limits.Bounded`.
"""

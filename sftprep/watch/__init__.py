"""In: a job to do. Does: does it before the user's eyes: a bar while it works, what came of it when it is done. Out: lines on standard
error, JSON on standard output if asked for.

To others: `build.watched_build`, `build.watched_plan`, `build.watched_dry_run`, `export.watched_export`, `verify.verify_command`,
`summary.show_summary`, `stated.stated`. Only here and in `look` is rich imported.
"""

"""In: a job to do. Does: does it before the user's eyes: a bar while it works, what came of it when it is done. Out: lines on standard
error, JSON on standard output if asked for.

To others: `build.watched_build`, `watched_plan`, `watched_work` and `watched_dry_run`, `export.watched_export`,
`verify.verify_command`, `diff.watched_diff`, `summary.show_summary`, `stated.stated`, `log.show_log`. Only here and in `look` is rich imported.
"""

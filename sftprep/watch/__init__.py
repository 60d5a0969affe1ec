"""In: a job to do. Does: does it before the user's eyes: a bar while it works, what came of it when it is done. Out: lines on standard
error, JSON on standard output if asked for.

To others: `build.watched_build`, `watched_plan`, `watched_work` and `watched_dry_run`; `datasets.watched_export`, `watched_diff` and
`watched_report`; `verify.verify_command`, `summary.show_summary`, `stated.stated`, `log.show_log`. Only here and in `look` is rich
imported.
"""

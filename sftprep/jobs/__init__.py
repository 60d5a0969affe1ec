"""In: a BuildConfig, an output folder. Does: plan, work, commit, each safe to repeat. Out: a dataset, or nothing.

To others: `build.build_dataset`, `plan.make_plan`, `folder.hold` and `adopt_plan`, `repeats.find_repeats`, `work.work_on`,
`commit.commit_dataset`, `rederive.verify_source`.
"""

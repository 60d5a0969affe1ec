"""In: rows, or a folder. Does: keeps files of a dataset whole: written once, read without trust. Out: files, a Manifest.

To others: `shard_writer.ShardWriter`, `receipt`, `manifest.load_manifest`, `safe_open`, `origins.read_origins`,
`verify.verify_dataset`, `staged` and `folders`.
"""

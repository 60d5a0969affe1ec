"""In: a dataset. Does: counts what it holds, shard by shard, and says which numbers are bad and what helps. Out: numbers, and
advice; nothing is drawn.

To others: `gather.statistics_of` (folder -> `measures.DatasetStatistics`), `measures.Measures`, `measures.Advice`,
`distribution.Distribution`, `plain.as_plain` (all of it as one JSON object).
"""

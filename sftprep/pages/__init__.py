"""In: a dataset. Does: makes a page of it that anyone can open: numbers, what was lost and why, telling conversations in colour. Out: one
HTML file that needs no network.

To others: `report.write_report`.
"""

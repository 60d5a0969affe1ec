"""In: conversations. Does: keys of what they say, draws that depend on nothing else, repeats among them. Out: keys, numbers.

To others: `draws.draw`, `contents`, `repeats`, `number_files`.
"""

"""In: texts. Does: tokenizes them and finds the characters that each token stands for. Out: PlacedTokens.

To others: `offsets.ExactEncoder`, `tiling.TiledEncoder`, `placed.PlacedTokens`.
"""

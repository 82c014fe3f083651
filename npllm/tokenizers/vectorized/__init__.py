"""The same ids and merges, all pieces of a text at once: read merging first, for the idea, then the others in order.

character_kinds → boundaries, sure_starts, modern_boundaries → stretches, table → piece_memory → blocks → merging,
merge_tree → encoder; decoding; and for training piece_counts → training
"""

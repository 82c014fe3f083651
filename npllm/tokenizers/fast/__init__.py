"""The same ids, all pieces of a text at once: read merging first, for the idea, then character_kinds to encoder.

character_kinds → boundaries, modern_boundaries → table → piece_memory → merging, merge_tree → encoder
"""

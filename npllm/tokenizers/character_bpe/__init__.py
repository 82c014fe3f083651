"""Character-level byte pair encoding with byte_fallback, in plain Python.

Read in this order: merge, segments, encode, normalization, added_tokens, charsmap, decode, vocabulary.
"""

"""Byte pair encoding in plain Python.

Read in this order: train, pretokenize, merge, special_tokens, surrogates, encode, bytes_to_unicode. unicode_tables is a
generated table.
"""

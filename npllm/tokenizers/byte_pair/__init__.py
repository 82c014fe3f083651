"""Byte pair encoding in plain Python.

Read in this order: train, pretokenize, merge, special_tokens, surrogates, bytes_to_unicode.
"""

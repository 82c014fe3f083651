"""Byte pair encoding in plain Python.

Read in this order: train, pretokenize, pre_tokenizers, merge, special_tokens, normalizers, added_tokens, surrogates,
encode, bytes_to_unicode. unicode_tables and normalization_table are generated tables.
"""

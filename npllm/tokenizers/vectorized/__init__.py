"""Byte pair encoding with array operations: the ids and merges of `byte_pair`, for all pre-tokens of a text at once.

Reading order: char_classes, pretokenize_gpt2, safe_split_points, pretokenize_gpt4, pretokenize_deepseek,
pretokenize_steps, pretokenizers, ragged, hash_table, pretoken_table, pretoken_cache, blocks, parallel_merge,
merge_tree, encode, decode; and for training pretoken_counts, incremental_training.
"""

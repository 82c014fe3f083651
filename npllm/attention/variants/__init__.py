"""Variants of multi-head attention.

Read in this order: hooks, rope, relative_bias, grouped_query; then shaw, differential, mla, linear_attention,
delta_net.
"""

"""Variants of multi-head attention.

Read in this order: rope, rope_frequencies, relative_bias, options, grouped_query; then mla, shaw, differential;
recurrence, linear_attention, delta_net, delta_rule_chunked.
"""

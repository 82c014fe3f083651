"""Twins of npllm.attention.variants."""

"""Variants of multi-head attention in PyTorch."""

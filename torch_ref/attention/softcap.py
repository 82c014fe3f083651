"""Soft-capped scores in PyTorch."""

import torch


def softcap(scores, cap):
    """cap · tanh(scores / cap)."""
    return cap * torch.tanh(scores / cap)

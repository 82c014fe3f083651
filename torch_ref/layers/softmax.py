"""Softmax and its relatives in PyTorch."""

import torch


def normalize_by_sum(x, axis=-1):
    """x divided by its sum along the axis."""
    return x / x.sum(dim=axis, keepdim=True)


def softmax_naive(x, axis=-1):
    """exp(x) divided by its sum along the axis, overflow included."""
    exponentials = x.exp()
    return exponentials / exponentials.sum(dim=axis, keepdim=True)


def softmax(x, axis=-1):
    """torch.softmax, except that a row of nothing but −inf gives zeros instead of nan."""
    nothing_to_see = (x == -torch.inf).all(dim=axis, keepdim=True)
    return x.masked_fill(nothing_to_see, 0.0).softmax(dim=axis).masked_fill(nothing_to_see, 0.0)


def log_softmax(x, axis=-1):
    """torch.log_softmax, except that a row of nothing but −inf stays −inf instead of nan."""
    nothing_to_see = (x == -torch.inf).all(dim=axis, keepdim=True)
    return x.masked_fill(nothing_to_see, 0.0).log_softmax(dim=axis).masked_fill(nothing_to_see, -torch.inf)

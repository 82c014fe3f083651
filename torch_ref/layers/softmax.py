"""Softmax, log-softmax, and the two simpler ways to normalize."""

import torch


def normalize_by_sum(x, axis=-1):
    """x divided by its sum."""
    return x / x.sum(dim=axis, keepdim=True)


def softmax_naive(x, axis=-1):
    """exp(x) divided by its sum; large scores overflow."""
    exponentials = x.exp()
    return exponentials / exponentials.sum(dim=axis, keepdim=True)


def softmax(x, axis=-1):
    """torch.softmax, but a row of −inf gives zeros, not nan."""
    is_masked = (x == -torch.inf).all(dim=axis, keepdim=True)
    return x.masked_fill(is_masked, 0.0).softmax(dim=axis).masked_fill(is_masked, 0.0)


def log_softmax(x, axis=-1):
    """torch.log_softmax, but a row of −inf stays −inf, not nan."""
    is_masked = (x == -torch.inf).all(dim=axis, keepdim=True)
    return x.masked_fill(is_masked, 0.0).log_softmax(dim=axis).masked_fill(is_masked, -torch.inf)

"""The linear map in PyTorch."""

from torch.nn import functional as F


def linear(x, weight, bias=None):
    """F.linear: x Wᵀ + b."""
    return F.linear(x, weight, bias)

"""The linear map in PyTorch.

The linear layer is PyTorch's own.
"""

from torch.nn import Linear
from torch.nn import functional as F


def linear(x, weight, bias=None):
    """F.linear: x Wᵀ + b."""
    return F.linear(x, weight, bias)


__all__ = ["Linear"]

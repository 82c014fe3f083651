"""The linear map: PyTorch's own."""

from torch.nn import Linear
from torch.nn import functional as F


def linear(x, weight, bias=None):
    """x Wᵀ + b: F.linear."""
    return F.linear(x, weight, bias)


__all__ = ["Linear", "linear"]

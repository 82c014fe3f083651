"""Activations in PyTorch."""

import torch
from torch.nn import functional as F


def relu(x):
    """F.relu."""
    return F.relu(x)


def sigmoid(x):
    """torch.sigmoid."""
    return torch.sigmoid(x)


def silu(x):
    """F.silu."""
    return F.silu(x)


def gelu(x, approximate="none"):
    """F.gelu, exact or by tanh."""
    return F.gelu(x, approximate=approximate)

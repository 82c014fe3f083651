"""Activations: PyTorch's own."""

import torch
from torch.nn import functional as F


def relu(x):
    """max(x, 0): F.relu."""
    return F.relu(x)


def sigmoid(x):
    """1 / (1 + exp(−x)): torch.sigmoid."""
    return torch.sigmoid(x)


def silu(x):
    """x sigmoid(x): F.silu."""
    return F.silu(x)


def gelu(x, approximate="none"):
    """x Φ(x), exact or by the tanh approximation: F.gelu."""
    return F.gelu(x, approximate=approximate)


ACTIVATIONS = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}

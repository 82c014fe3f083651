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


def quick_gelu(x):
    """x sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def tanh(x):
    """torch.tanh."""
    return torch.tanh(x)


def squared_relu(x):
    """max(x, 0)²."""
    return F.relu(x).square()


ACTIVATIONS = {
    "relu": F.relu,
    "squared_relu": squared_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "quick_gelu": quick_gelu,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}

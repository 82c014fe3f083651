"""The error function in PyTorch."""

import torch


def erf(x):
    """torch.erf."""
    return torch.erf(x)

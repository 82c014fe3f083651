"""The weighted average of early attention in PyTorch."""

import torch

from torch_ref.layers.softmax import softmax


def weighted_average(scores, v, mask=None):
    """The average of v with weights softmax(scores); mask (..., S) is False at padding."""
    if mask is not None:
        scores = scores.masked_fill(~mask.unsqueeze(-2), -torch.inf)
    return softmax(scores) @ v

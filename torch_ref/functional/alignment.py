"""The two halves of early attention in PyTorch."""

import torch

from torch_ref.functional.softmax import softmax


def additive_scores(q, k, v):
    """A network with one hidden layer scores every pair."""
    return torch.tanh(q.unsqueeze(-2) + k.unsqueeze(-3)) @ v


def weighted_average(scores, v, mask=None):
    """The average of v by the softmax of the scores."""
    if mask is not None:
        scores = scores.masked_fill(~mask.unsqueeze(-2), -torch.inf)
    return softmax(scores) @ v

"""Embedding lookup: PyTorch's own."""

import torch
from torch.nn import Embedding
from torch.nn import functional as F


def one_hot(ids, num_classes, dtype=torch.float32):
    """1 where the class is the id, else 0."""
    return F.one_hot(ids.long(), num_classes).to(dtype)


def embedding(ids, weight, padding_idx=None):
    """weight[ids]; the row `padding_idx` has gradient 0."""
    return F.embedding(ids, weight, padding_idx)


__all__ = ["Embedding", "embedding", "one_hot"]

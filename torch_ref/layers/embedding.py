"""Embedding lookup in PyTorch.

Embeddings and positions in PyTorch.
"""

import torch
from torch.nn import Embedding
from torch.nn import functional as F


def one_hot(ids, num_classes, dtype=torch.float32):
    """1 where the class is the id, else 0."""
    return F.one_hot(ids.long(), num_classes).to(dtype)


def embedding(ids, weight, padding_idx=None):
    """F.embedding: the row of each id; `padding_idx` gets no gradient."""
    return F.embedding(ids, weight, padding_idx)


__all__ = ["Embedding"]

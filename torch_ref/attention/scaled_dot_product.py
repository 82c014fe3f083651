"""Scaled dot-product attention in PyTorch, written out."""

import math

import torch

from torch_ref.layers.softmax import softmax


def attention(q, k, v, mask=None, bias=None, scale=None, dropout_mask=None):
    """softmax(q kᵀ · scale + bias where mask) v; k and v may have fewer heads (axis −3) than q."""
    if q.ndim > 2 and k.ndim > 2 and k.shape[-3] < q.shape[-3]:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], dim=-3)
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    return attend(q @ k.mT * scale, v, mask, bias, dropout_mask)


def attend(scores, v, mask=None, bias=None, dropout_mask=None):
    """(softmax(scores + bias where mask) · dropout_mask) v; a row that is masked as a whole gives zeros."""
    if scores.ndim > 2 and v.ndim > 2 and v.shape[-3] < scores.shape[-3]:
        v = v.repeat_interleave(scores.shape[-3] // v.shape[-3], dim=-3)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = softmax(scores)
    if dropout_mask is not None:
        weights = weights * dropout_mask
    return weights @ v

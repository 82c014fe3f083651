"""Relative positions in PyTorch."""

import math

import torch


def alibi_bias(slopes, distance):
    """−slope · |distance| for every head."""
    return -torch.as_tensor(slopes)[:, None, None] * distance.abs()


def t5_buckets(distance, num_buckets=32, max_distance=128):
    """One bucket a distance for the first half, then ranges that grow like a logarithm."""
    distance = distance.clamp(min=0)
    exact = num_buckets // 2
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    large = (exact + (growth * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return torch.where(distance < exact, distance, large)


def relative_attention(q, k, v, key_table, value_table, buckets, attn_mask=None, dropout_mask=None):
    """The vectors of all pairs laid out, (T, S, D), which the formula asks for and npllm avoids."""
    buckets = buckets.expand(*q.shape[:-1], k.shape[-2])
    keys, values = k[..., None, :, :] + key_table[buckets], v[..., None, :, :] + value_table[buckets]
    scores = (q[..., None, :] * keys).sum(-1) / q.shape[-1] ** 0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    weights = torch.softmax(scores, dim=-1)
    if dropout_mask is not None:
        weights = weights * dropout_mask
    return (weights[..., None] * values).sum(-2)

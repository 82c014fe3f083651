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

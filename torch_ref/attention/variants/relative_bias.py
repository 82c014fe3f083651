"""Relative position biases in PyTorch."""

import math

import torch


def alibi_bias(slopes, distance):
    """−slope · |distance| for every head."""
    return -torch.as_tensor(slopes)[:, None, None] * distance.abs()


def alibi_slopes(num_heads):
    """For n heads, n a power of 2: a geometric sequence that starts at 2^(−8/n) and has that ratio.

    For other n: the sequence for the closest smaller power, then every second slope of that for twice the power.
    """
    if num_heads & (num_heads - 1) == 0:
        ratio = 2 ** (-8 / num_heads)
        return [ratio ** (h + 1) for h in range(num_heads)]
    power = 1 << (num_heads.bit_length() - 1)
    return alibi_slopes(power) + alibi_slopes(2 * power)[0::2][: num_heads - power]


def t5_buckets(distance, num_buckets=32, max_distance=128):
    """One bucket for each distance in the first half, then ranges that grow logarithmically."""
    distance = distance.clamp(min=0)
    exact = num_buckets // 2
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    large = (exact + (growth * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return torch.where(distance < exact, distance, large)

"""Normalization over the last axis: PyTorch's own, with the defaults of npllm."""

import torch
from torch import nn
from torch.nn import functional as F


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    """F.layer_norm."""
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm(x, weight=None, eps=1e-6):
    """F.rms_norm."""
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def l2_normalize(x, eps=1e-6):
    """x / √(Σ x² + eps)."""
    return x * (x.square().sum(dim=-1, keepdim=True) + eps).rsqrt()


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm."""

    def __init__(self, num_channels, eps=1e-5, bias=True, elementwise_affine=True):
        super().__init__(num_channels, eps, elementwise_affine, bias=bias)


class RMSNorm(nn.Module):
    """x / √(mean(x²) + eps) · weight, or · (1 + weight)."""

    def __init__(self, num_channels, eps=1e-6, unit_offset=False):
        super().__init__()
        self.eps, self.unit_offset = eps, unit_offset
        self.weight = nn.Parameter(torch.zeros(num_channels) if unit_offset else torch.ones(num_channels))

    def forward(self, x):
        """F.rms_norm."""
        return rms_norm(x, 1 + self.weight if self.unit_offset else self.weight, self.eps)

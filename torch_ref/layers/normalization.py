"""Normalization over the last axis: PyTorch's own, with the defaults of npllm."""

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

    def __init__(self, num_channels, eps=1e-5, bias=True):
        super().__init__(num_channels, eps, bias=bias)


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm."""

    def __init__(self, num_channels, eps=1e-6):
        super().__init__(num_channels, eps)

"""The normalisations of PyTorch over the last axis, with the defaults of npllm."""

from torch import nn


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last axis."""

    def __init__(self, num_channels, eps=1e-5, bias=True):
        super().__init__(num_channels, eps, bias=bias)


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm over the last axis."""

    def __init__(self, num_channels, eps=1e-6):
        super().__init__(num_channels, eps)

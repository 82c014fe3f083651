"""The normalisations are PyTorch's own; RMSNorm with the eps of npllm, 1e-6."""

from torch import nn
from torch.nn import LayerNorm

__all__ = ["LayerNorm", "RMSNorm"]


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm over the last axis."""

    def __init__(self, num_channels, eps=1e-6):
        super().__init__(num_channels, eps)

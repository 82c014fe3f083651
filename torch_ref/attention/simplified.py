"""Self-attention without trainable weights in PyTorch."""

import torch
from torch import nn


class SimplifiedSelfAttention(nn.Module):
    """softmax(x xᵀ) x."""

    def forward(self, x):
        """The context vectors."""
        return torch.softmax(x @ x.mT, dim=-1) @ x

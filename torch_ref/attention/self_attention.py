"""Self-attention with trainable weights in PyTorch."""

import torch
from torch import nn

from torch_ref.attention.scaled_dot_product import attention


class SelfAttentionV1(nn.Module):
    """Queries, keys and values by plain matrices."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x):
        """The context vectors."""
        return attention(x @ self.W_query, x @ self.W_key, x @ self.W_value)


class SelfAttentionV2(nn.Module):
    """Queries, keys and values by linear layers."""

    def __init__(self, d_in, d_out, qkv_bias=False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x):
        """The context vectors."""
        return attention(self.W_query(x), self.W_key(x), self.W_value(x))

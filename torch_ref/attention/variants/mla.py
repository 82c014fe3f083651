"""Multi-head latent attention in PyTorch: the score is a sum of two, one of the content and one of the positions."""

import torch
from torch import nn

from torch_ref.attention.masks import positions_and_mask
from torch_ref.attention.multi_head import join_heads, split_heads
from torch_ref.attention.variants.rope import rotary, rotary_amplitude, rotary_frequencies
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.normalization import RMSNorm


class MultiHeadLatentAttention(nn.Module):
    """Keys and values are computed from a latent; rotary positions have channels of their own.

    `rope` is a data object with the fields of npllm.attention.RoPE; unless given, theta is 10000 and layout "pairs".
    """

    def __init__(
        self,
        d_model,
        context_length,
        dropout,
        num_heads,
        kv_lora_rank,
        head_dim,
        qk_rope_head_dim,
        q_lora_rank=None,
        rope=None,
    ):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.kv_lora_rank, self.qk_rope_head_dim = kv_lora_rank, qk_rope_head_dim
        self.rope = rope
        q_size = num_heads * (head_dim + qk_rope_head_dim)
        self.q_proj = None
        if q_lora_rank is None:
            self.q_proj = nn.Linear(d_model, q_size, bias=False)
        else:
            self.q_a_proj = nn.Linear(d_model, q_lora_rank, bias=False)
            self.q_a_layernorm = RMSNorm(q_lora_rank)
            self.q_b_proj = nn.Linear(q_lora_rank, q_size, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(d_model, kv_lora_rank + qk_rope_head_dim, bias=False)
        self.kv_a_layernorm = RMSNorm(kv_lora_rank)
        self.kv_b_proj = nn.Linear(kv_lora_rank, num_heads * 2 * head_dim, bias=False)
        self.o_proj = nn.Linear(num_heads * head_dim, d_model, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        positions, mask = positions_and_mask(x.shape[-2], document_ids, x.device)
        q = self.q_proj(x) if self.q_proj is not None else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = split_heads(q, self.num_heads)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([self.kv_lora_rank, self.qk_rope_head_dim], dim=-1)
        k, v = split_heads(self.kv_b_proj(self.kv_a_layernorm(latent)), self.num_heads).chunk(2, dim=-1)
        scores = q[..., : self.head_dim] @ k.mT
        if self.qk_rope_head_dim:
            q_rope = self.rotate(q[..., self.head_dim :], positions)
            scores = scores + q_rope @ self.rotate(k_rope.unsqueeze(-3), positions).mT
        scores = scores / (self.head_dim + self.qk_rope_head_dim) ** 0.5
        weights = self.dropout(torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1))
        return self.o_proj(join_heads(weights @ v))

    def rotate(self, x, positions):
        """The rotary channels, rotated by their positions."""
        if self.rope is None:
            return rotary(x, positions, rotary_frequencies(self.qk_rope_head_dim), "pairs")
        num_positions = int(positions.max()) + 1
        frequencies = rotary_frequencies(self.qk_rope_head_dim, self.rope.theta, self.rope.scaling, num_positions)
        return rotary(x, positions, frequencies, self.rope.layout, rotary_amplitude(self.rope.scaling))

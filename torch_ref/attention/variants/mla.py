"""Multi-head latent attention in PyTorch: content and position are two scores, added."""

import torch
from torch import nn

from torch_ref.attention.variants.rope import amplitude, frequencies, rotary
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.normalization import RMSNorm


class MultiHeadLatentAttention(nn.Module):
    """Keys and values from a latent; rotary positions in channels of their own."""

    def __init__(
        self, d_model, context_length, dropout, num_heads, kv_lora_rank, head_dim, qk_rope_head_dim,
        q_lora_rank=None, rope=None,
    ):  # fmt: skip
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.widths = [kv_lora_rank, qk_rope_head_dim]
        self.layout = "pairs" if rope is None else rope.layout
        self.amplitude = 1.0 if rope is None else amplitude(rope.scaling)
        theta, scaling = (10000.0, None) if rope is None else (rope.theta, rope.scaling)
        self.frequencies = frequencies(qk_rope_head_dim, theta, scaling)
        query_width = num_heads * (head_dim + qk_rope_head_dim)
        if q_lora_rank is None:
            self.q_proj = nn.Linear(d_model, query_width, bias=False)
        else:
            self.q_a_proj = nn.Linear(d_model, q_lora_rank, bias=False)
            self.q_a_layernorm = RMSNorm(q_lora_rank)
            self.q_b_proj = nn.Linear(q_lora_rank, query_width, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(d_model, sum(self.widths), bias=False)
        self.kv_a_layernorm = RMSNorm(kv_lora_rank)
        self.kv_b_proj = nn.Linear(kv_lora_rank, num_heads * 2 * head_dim, bias=False)
        self.o_proj = nn.Linear(num_heads * head_dim, d_model, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        length = x.shape[-2]
        positions, hidden = torch.arange(length), torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
        if document_ids is not None:
            begins = torch.ones_like(document_ids, dtype=torch.bool)
            begins[..., 1:] = document_ids[..., 1:] != document_ids[..., :-1]
            number = begins.cumsum(-1)
            hidden = (hidden | (number[..., :, None] != number[..., None, :]))[..., None, :, :]
            positions = (positions - torch.where(begins, positions, 0).cummax(-1).values)[..., None, :]
        queries = self.q_proj(x) if hasattr(self, "q_proj") else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        queries = queries.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        latent, shared_key = self.kv_a_proj_with_mqa(x).split(self.widths, dim=-1)
        up = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        keys, values = up.chunk(2, dim=-1)
        scores = queries[..., : self.head_dim] @ keys.mT
        if self.widths[1]:
            turned = rotary(queries[..., self.head_dim :], positions, self.frequencies, self.layout, self.amplitude)
            shared_key = rotary(shared_key.unsqueeze(-3), positions, self.frequencies, self.layout, self.amplitude)
            scores = scores + turned @ shared_key.mT
        scores = (scores / (self.head_dim + self.widths[1]) ** 0.5).masked_fill(hidden, -torch.inf)
        context = self.dropout(torch.softmax(scores, dim=-1)) @ values
        return self.o_proj(context.transpose(-3, -2).flatten(-2))

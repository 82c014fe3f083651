"""Grouped-query attention and its options in PyTorch."""

import torch
from torch import nn

from torch_ref.attention.masks import positions_and_mask
from torch_ref.attention.multi_head import join_heads, split_heads
from torch_ref.attention.softcap import softcap
from torch_ref.attention.variants.relative_bias import alibi_bias, alibi_slopes, t5_buckets
from torch_ref.attention.variants.rope import apply_rope
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.normalization import RMSNorm


class GroupedQueryAttention(nn.Module):
    """Causal attention in which groups of query heads share key and value heads.

    The options are data objects with the fields that npllm.attention.GQA documents.
    """

    def __init__(
        self,
        d_model,
        context_length,
        dropout,
        num_heads,
        num_kv_heads=None,
        head_dim=None,
        qkv_bias=False,
        *,
        o_bias=False,
        qk_norm=None,
        rope=None,
        scale=None,
        softcap=None,
        relative_bias=None,
        window=None,
        sparsity=None,
        output_gate=False,
    ):
        super().__init__()
        num_kv_heads = num_kv_heads or num_heads
        head_dim = head_dim or d_model // num_heads
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.qk_norm, self.rope, self.softcap, self.relative_bias = qk_norm, rope, softcap, relative_bias
        self.window, self.sparsity = window, sparsity
        self.scale = head_dim**-0.5 if scale is None else scale
        self.q_proj = nn.Linear(d_model, num_heads * head_dim, bias=qkv_bias)
        self.k_proj = nn.Linear(d_model, num_kv_heads * head_dim, bias=qkv_bias)
        self.v_proj = nn.Linear(d_model, num_kv_heads * head_dim, bias=qkv_bias)
        self.o_proj = nn.Linear(num_heads * head_dim, d_model, bias=o_bias)
        self.dropout = Dropout(dropout)
        if qk_norm is not None:
            whole = qk_norm.over == "projection"
            self.q_norm = RMSNorm(head_dim * (num_heads if whole else 1), qk_norm.eps, qk_norm.unit_offset)
            self.k_norm = RMSNorm(head_dim * (num_kv_heads if whole else 1), qk_norm.eps, qk_norm.unit_offset)
        if hasattr(relative_bias, "num_buckets"):
            self.relative_attention_bias = nn.Embedding(relative_bias.num_buckets, num_heads)
        if output_gate:
            self.gate_proj = nn.Linear(d_model, num_heads * head_dim, bias=False)

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        positions, mask = positions_and_mask(x.shape[-2], document_ids, x.device)
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if self.qk_norm is not None and self.qk_norm.over == "projection":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = split_heads(q, self.num_heads), split_heads(k, self.num_kv_heads), split_heads(v, self.num_kv_heads)
        if self.qk_norm is not None and self.qk_norm.over == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope is not None:
            q, k = apply_rope(q, k, positions, self.rope)
        k, v = (t.repeat_interleave(self.num_heads // self.num_kv_heads, dim=-3) for t in (k, v))
        scores = q @ k.mT * self.scale
        if self.softcap is not None:
            scores = softcap(scores, self.softcap)
        distance = positions[..., :, None] - positions[..., None, :]
        scores = self.add_bias(scores, distance)
        mask = self.restrict_mask(mask, positions, distance)
        weights = self.dropout(torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1))
        context = join_heads(weights @ v)
        if hasattr(self, "gate_proj"):
            context = context * torch.sigmoid(self.gate_proj(x))
        return self.o_proj(context)

    def add_bias(self, scores, distance):
        """The scores with ALiBi's or T5's bias."""
        if hasattr(self.relative_bias, "slopes"):
            slopes = self.relative_bias.slopes or alibi_slopes(self.num_heads)
            return scores + alibi_bias(torch.tensor(slopes, dtype=torch.float64), distance).to(scores.dtype)
        if hasattr(self.relative_bias, "num_buckets"):
            distance = distance if distance.ndim == 2 else distance.squeeze(-3)  # one row for all heads
            buckets = t5_buckets(distance, self.relative_bias.num_buckets, self.relative_bias.max_distance)
            return scores + self.relative_attention_bias(buckets).movedim(-1, -3)
        return scores

    def restrict_mask(self, mask, positions, distance):
        """The mask within the window and the sparse pattern."""
        if self.window is not None:
            mask = mask & ((distance < self.window.size) | (positions[..., None, :] < self.window.num_sink_tokens))
        if hasattr(self.sparsity, "stride"):
            stride = self.sparsity.stride
            mask = mask & ((distance < stride) | (torch.remainder(distance, stride) == 0))
        if hasattr(self.sparsity, "layout"):
            block = positions // self.sparsity.block_size
            mask = mask & torch.tensor(self.sparsity.layout)[block[..., :, None], block[..., None, :]]
        return mask

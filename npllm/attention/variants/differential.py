"""Differential attention: two maps of attention, one subtracted from the other, so that what both see cancels.

    x → q₁, q₂, k₁, k₂, v → split into heads → [A₁ v − λ A₂ v in each] → norm → join the heads → projection

Softmax gives every position a weight, and over a long text the weights of all that does not matter add up. As a pair of
headphones subtracts the noise that a second microphone hears, a head has two maps here and takes their difference, in
which weights may be negative:

    y = (A₁ − λ A₂) v,      A_i = softmax(causal(q_i k_iᵀ / √D)),      λ = exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + λ_init

Over `multi_head` that is half as many heads of twice the width: the two maps of a head share its channels, so there are
as many maps of as narrow queries and keys. λ is learned, by four vectors that all heads share, and starts near λ_init.
The difference is small, and smaller in some heads than in others: a norm for each head, times 1 − λ_init, gives the
projection what it had before.

Ye et al. 2024, Differential Transformer, section 2.1; λ_init there is 0.8 − 0.6 exp(−0.3 l) in layer l = 0, 1, …, see
lambda_of_layer.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.attention.base import Attention, document_ids_per_head, join_heads, reject_document_ids, split_heads
from npllm.attention.kv_cache import KVCache
from npllm.attention.masks import document_mask, position_mask
from npllm.attention.pytorch_interface import (
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_sequence, check_context_length, check_positive
from npllm.core.module import Parameter, as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.normalization import RMSNorm


def lambda_of_layer(layer):
    """λ_init = 0.8 − 0.6 exp(−0.3 layer), for layers counted from 0: 0.2, 0.36, 0.47, … 0.8."""
    return 0.8 - 0.6 * math.exp(-0.3 * layer)


@dataclass(frozen=True)
class Differential:
    """The configuration of DifferentialAttention."""

    num_heads: int
    lambda_init: float = 0.8

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> "DifferentialAttention":
        """The layer."""
        return DifferentialAttention(d_model, context_length, dropout, **vars(self), rng=rng, dtype=dtype)


class DifferentialAttention(Attention):
    """y = join(norm((A₁ − λ A₂) v) (1 − λ_init)) W_oᵀ      (..., T, C) → (..., T, C)

    A head has two queries and keys of width D = d_model / (2 num_heads) and a value of width 2 D. Of the 2 H blocks of
    D channels in q and k, 2 h and 2 h + 1 are head h's. Dropout silences entries of the difference A₁ − λ A₂: one mask
    for both maps. Raises ValueError unless 2 num_heads divides d_model.
    """

    def __init__(self, d_model, context_length, dropout, num_heads, lambda_init=0.8, *, rng=None, dtype="float32"):
        if num_heads < 1 or d_model % (2 * num_heads):
            raise ValueError(f"d_model is {d_model} and num_heads {num_heads}; 2 num_heads must divide d_model")
        check_positive(context_length=context_length)
        if not 0.0 <= lambda_init < 1.0:
            raise ValueError(f"lambda_init is {lambda_init}; it must be at least 0 and less than 1")
        rng = as_generator(rng)
        width = d_model // (2 * num_heads)
        self.context_length, self.num_heads, self.lambda_init = context_length, num_heads, float(lambda_init)
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            Parameter((0.1 * rng.standard_normal(width)).astype(dtype)) for _ in range(4)
        )
        self.q_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.k_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.v_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.norm = RMSNorm(2 * width, eps=1e-5, dtype=dtype)
        self.o_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)

    def attention_weights(self, x):
        """The weights A₁ − λ A₂ behind `self(x)`, (..., H, T, T): each row sums to 1 − λ."""
        cache = self.forward(x)[1]
        first, second = np.moveaxis(cache.attention.weights, -3, 0)
        return first - cache.factor.factor * second

    def new_kv_cache(self, batch_size=1, left_padding=None):
        """An empty past: it will hold both keys and the value of every position and head."""
        return KVCache(batch_size, left_padding)

    def __call__(self, x, kv_cache=None, document_ids=None):
        """The value alone. With a `past` x follows what that has seen, and is added to it."""
        if kv_cache is None:
            return self.forward(x, document_ids=document_ids)[0]
        reject_document_ids(document_ids)
        q, k, v = self._heads(*(layer(as_sequence(x)) for layer in (self.q_proj, self.k_proj, self.v_proj)))
        positions = kv_cache.positions(q.shape[-2])
        k, v, key_positions = kv_cache.extend(k, v)
        seen = position_mask(positions, key_positions)[..., None, :, :]  # an axis more, for the two maps
        contexts = scaled_dot_product_attention(q, k, v, attn_mask=seen)
        difference = contexts[..., 0, :, :] - self._factor().factor * contexts[..., 1, :, :]
        return self.o_proj(join_heads(self.norm(difference) * (1.0 - self.lambda_init)))

    def forward(self, x, rng=None, document_ids=None):
        """The value, and the caches of the projections, of the core, of λ, of the norm and of the dropout.

        documents   integers (..., T): several documents in a row, each attending to itself
        """
        check_context_length(as_sequence(x).shape[-2], self.context_length)
        document_ids = document_ids_per_head(document_ids, x)
        q, q_proj = self.q_proj.forward(x)
        k, k_proj = self.k_proj.forward(x)
        v, v_proj = self.v_proj.forward(x)
        q, k, v = self._heads(q, k, v)
        mask = self.dropout.draw_dropout_mask((*v.shape[:-1], k.shape[-2]), rng, q.dtype)
        attn_mask = None if document_ids is None else document_mask(document_ids)[..., None, :, :]
        contexts, attention = scaled_dot_product_attention_forward(
            q, k, v, attn_mask, is_causal=document_ids is None, dropout_mask=mask
        )
        factor = self._factor()
        difference = contexts[..., 0, :, :] - factor.factor * contexts[..., 1, :, :]
        normalized, norm = self.norm.forward(difference)
        y, o_proj = self.o_proj.forward(join_heads(normalized * (1.0 - self.lambda_init)))
        return y, Cache(
            q_proj=q_proj,
            k_proj=k_proj,
            v_proj=v_proj,
            dropout=Cache(dropout_mask=mask),
            attention=attention,
            second=contexts[..., 1, :, :],
            factor=factor,
            norm=norm,
            o_proj=o_proj,
        )

    def backward(self, dy, cache):
        """The forward, read from its last line to its first; the difference hands one map d, the other −λ d."""
        dnormalized = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads) * (1.0 - self.lambda_init)
        ddifference = self.norm.backward(dnormalized, cache.norm)
        self._factor_backward(-(ddifference * cache.second).sum(), cache.factor)
        dcontexts = np.stack([ddifference, -cache.factor.factor * ddifference], axis=-3)
        dq, dk, dv = scaled_dot_product_attention_backward(dcontexts, cache.attention)
        dq, dk = (gradient.reshape(*gradient.shape[:-4], -1, *gradient.shape[-2:]) for gradient in (dq, dk))
        dx = self.v_proj.backward(join_heads(dv[..., 0, :, :]), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)

    def _heads(self, q, k, v):
        """Queries and keys of both maps, (..., H, 2, T, D), and the values that they share, (..., H, 1, T, 2 D)."""
        q, k = (split_heads(x, 2 * self.num_heads) for x in (q, k))
        q, k = (x.reshape(*x.shape[:-3], self.num_heads, 2, *x.shape[-2:]) for x in (q, k))
        return q, k, split_heads(v, self.num_heads)[..., None, :, :]

    def _factor(self):
        """λ, and the two exponentials of which it is made."""
        first = np.exp(self.lambda_q1.data @ self.lambda_k1.data)
        second = np.exp(self.lambda_q2.data @ self.lambda_k2.data)
        return Cache(factor=first - second + self.lambda_init, first=first, second=second)

    def _factor_backward(self, dfactor, cache):
        """λ = exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + λ_init: each vector gets its partner, times ± the exponential."""
        pairs = ((cache.first, self.lambda_q1, self.lambda_k1), (-cache.second, self.lambda_q2, self.lambda_k2))
        for slope, query, key in pairs:
            query.add_grad(dfactor * slope * key.data)
            key.add_grad(dfactor * slope * query.data)

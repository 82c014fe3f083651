"""Differential attention: the difference of two attention maps, in which the part that both have in common cancels.

    x → q₁, q₂, k₁, k₂, v → split into heads → [A₁ v − λ A₂ v in each] → norm → join the heads → projection

Softmax gives every position some weight, and over a long text the weights of all irrelevant positions add up. Here each
head has two attention maps and takes their difference, so that weights may be 0 or negative:

    y = (A₁ − λ A₂) v,      A_i = softmax(causal(q_i k_iᵀ / √D)),      λ = exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + λ_init

There are half as many heads as in multi-head attention, each with twice the channels: the two maps of a head divide its
channels of q and k. λ is learned, by four vectors for all heads, and starts near λ_init. The difference is small, and
its size differs between heads; a norm for each head, times 1 − λ_init, restores the scale.

Ye et al. 2024, Differential Transformer, section 2.1; λ_init there is 0.8 − 0.6 exp(−0.3 l) in layer l = 0, 1, …, see
lambda_of_layer.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from npllm.attention.base import (
    Attention,
    join_heads,
    per_head,
    project_backward,
    project_forward,
    query_positions,
    split_heads,
)
from npllm.attention.kv_cache import KVCache
from npllm.attention.mask_rule import MaskRule
from npllm.attention.paths import masked_attention_backward, masked_attention_forward
from npllm.core.cache import Cache
from npllm.core.checks import check_number, check_positive, check_probability
from npllm.core.module import Parameter, as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.normalization import RMSNorm


def lambda_of_layer(layer: int) -> float:
    """λ_init = 0.8 − 0.6 exp(−0.3 layer), for layers counted from 0: 0.2, 0.36, 0.47, … 0.8."""
    return 0.8 - 0.6 * math.exp(-0.3 * layer)


class DifferentialAttention(Attention):
    """y = join(norm((A₁ − λ A₂) v) (1 − λ_init)) W_oᵀ      (..., T, C) → (..., T, C)

    A head has two queries and keys with D = d_model / (2 num_heads) channels and a value with 2 D. Of the 2 H blocks of
    D channels in q and k, 2 h and 2 h + 1 belong to head h. Both maps have the same dropout mask, so that dropout acts
    on A₁ − λ A₂. Raises ValueError unless 2 num_heads divides d_model.
    """

    def __init__(
        self,
        d_model: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        lambda_init: float = 0.8,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_positive(d_model=d_model, num_heads=num_heads)
        if d_model % (2 * num_heads):
            raise ValueError(f"d_model is {d_model} and num_heads {num_heads}; 2 num_heads must divide d_model")
        check_positive(context_length=context_length)
        if not 0.0 <= check_number("lambda_init", lambda_init) < 1.0:
            raise ValueError(f"lambda_init is {lambda_init}; it must be at least 0 and less than 1")
        head_dim = d_model // (2 * num_heads)
        self.context_length, self.num_heads, self.lambda_init = context_length, num_heads, float(lambda_init)
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            Parameter(np.zeros(head_dim, dtype)) for _ in range(4)
        )
        self.q_proj, self.k_proj, self.v_proj = (
            Linear(d_model, d_model, bias=False, dtype=dtype, init=False) for _ in range(3)
        )
        self.norm = RMSNorm(2 * head_dim, eps=1e-5, dtype=dtype, init=False)
        self.o_proj = Linear(d_model, d_model, bias=False, dtype=dtype, init=False)
        self.dropout = Dropout(check_probability("dropout", dropout))
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw the vectors of λ from N(0, 0.1²), then the projections."""
        for parameter in self.params.values():
            parameter.data[...] = 0.1 * rng.standard_normal(parameter.shape)
        super().init_weights(rng)

    def attention_weights(self, x: np.ndarray) -> np.ndarray:
        """The weights A₁ − λ A₂ behind `self(x)`, (..., H, T, T): each row has the sum 1 − λ."""
        cache = self.forward(x)[1]
        first, second = np.moveaxis(cache.attention.weights, -3, 0)
        return first - cache.lam * second

    def new_kv_cache(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> KVCache:
        """An empty cache, for both keys and the value of every position and head."""
        return KVCache(batch_size, left_padding)

    def forward(
        self,
        x: np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        kv_cache: KVCache | None = None,
        document_ids: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the projections, of the dropout, of the core, of λ (`lam`) and of the norm.

        kv_cache       x follows the positions that are in it, and its keys and values are appended
        document_ids   integers (..., T): several documents in one sequence; no position attends to another document
        """
        document_ids = per_head(document_ids, x)
        positions = query_positions(x, self.context_length, kv_cache, document_ids)
        (q, k, v), projections = project_forward(x, (self.q_proj, self.k_proj, self.v_proj))
        q, k = self._split_maps(q), self._split_maps(k)  # (..., H, 2, T, D)
        v = split_heads(v, self.num_heads)[..., None, :, :]  # (..., H, 1, T, 2 D): one value for both maps
        k, v, key_positions = (k, v, positions) if kv_cache is None else kv_cache.append(k, v)
        mask = MaskRule(_per_map(positions), _per_map(key_positions), document_ids=_per_map(document_ids))
        dropout_mask = self.dropout.draw_dropout_mask((*q.shape[:-3], 1, q.shape[-2], k.shape[-2]), rng, q.dtype)
        contexts, attention = masked_attention_forward(q, k, v, mask, dropout_mask=dropout_mask)
        lam, lam_cache = self._lambda()
        first, second = contexts[..., 0, :, :], contexts[..., 1, :, :]
        normalized, norm = self.norm.forward(first - lam * second)
        y, o_proj = self.o_proj.forward(join_heads(normalized * (1.0 - self.lambda_init)))
        return y, Cache(
            projections=projections,
            dropout=Cache(dropout_mask=dropout_mask),
            attention=attention,
            second=second,
            lam=lam,
            lam_cache=lam_cache,
            norm=norm,
            o_proj=o_proj,
        )

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x, of a forward without kv_cache.

        The gradient d of first − λ second gives d for the first map, −λ d for the second, and −Σ d second for λ.
        """
        dnormalized = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads) * (1.0 - self.lambda_init)
        ddifference = self.norm.backward(dnormalized, cache.norm)
        self._lambda_backward(-(ddifference * cache.second).sum(), cache.lam_cache)
        dcontexts = np.stack([ddifference, -cache.lam * ddifference], axis=-3)
        dq, dk, dv = masked_attention_backward(dcontexts, cache.attention)
        dqkv = [self._join_maps(dq), self._join_maps(dk), join_heads(dv[..., 0, :, :])]
        return project_backward(dqkv, cache.projections, (self.q_proj, self.k_proj, self.v_proj))

    def _lambda(self) -> tuple[np.ndarray, Cache]:
        """λ = exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + λ_init; the cache holds both exponentials."""
        first = np.exp(self.lambda_q1.data @ self.lambda_k1.data)
        second = np.exp(self.lambda_q2.data @ self.lambda_k2.data)
        return first - second + self.lambda_init, Cache(first=first, second=second)

    def _lambda_backward(self, dlam: np.ndarray, cache: Cache) -> None:
        """dλ_q1 = dλ exp(λ_q1·λ_k1) λ_k1 and so on; with the opposite sign for the second product."""
        self.add_grads(
            lambda_q1=dlam * cache.first * self.lambda_k1.data,
            lambda_k1=dlam * cache.first * self.lambda_q1.data,
            lambda_q2=-dlam * cache.second * self.lambda_k2.data,
            lambda_k2=-dlam * cache.second * self.lambda_q2.data,
        )

    def _split_maps(self, x: np.ndarray) -> np.ndarray:
        """Both maps of every head: (..., T, H·2·D) → (..., H, 2, T, D)."""
        x = split_heads(x, 2 * self.num_heads)
        return x.reshape(*x.shape[:-3], self.num_heads, 2, *x.shape[-2:])

    def _join_maps(self, x: np.ndarray) -> np.ndarray:
        """Undo _split_maps."""
        return join_heads(x.reshape(*x.shape[:-4], 2 * self.num_heads, *x.shape[-2:]))


def _per_map(numbers):
    """Positions or document ids (..., 1, T) of every head, with an axis for the maps: (..., 1, 1, T). (T) stays."""
    return numbers if numbers is None or numbers.ndim == 1 else numbers[..., None, :]


@dataclass(frozen=True)
class Differential:
    """The configuration of DifferentialAttention: the constructor's arguments apart from the model's sizes."""

    num_heads: int
    lambda_init: float = 0.8

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> DifferentialAttention:
        """The layer."""
        return DifferentialAttention(d_model, context_length, dropout, **vars(self), rng=rng, dtype=dtype, init=init)

"""Grouped-query attention: several query heads use one head of keys and values. Llama, Qwen and Mistral have it.

    x → q (H heads), k, v (K heads) → QK norm → RoPE → scores → soft cap → bias → mask → softmax → context → gate → y

Over `causal_self_attention`: generation keeps the keys and values of all positions, and reading them takes most of its
time. With K < H there are H/K times fewer of them. K = H is multi-head attention, K = 1 multi-query attention.

The options stand in the formula where they act; each is off unless it is given. `GQA` is the configuration as data.

Ainslie et al. 2023, GQA; Shazeer 2019, Fast Transformer Decoding: One Write-Head is All You Need. The names of the
parameters are those of Llama's, Qwen3's (q_norm, k_norm) and T5's (relative_attention_bias) published weights.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.attention.base import Attention, document_ids_per_head, reject_document_ids
from npllm.attention.kv_cache import KVCache, SequenceState, SlidingWindowKVCache
from npllm.attention.masks import document_mask, document_positions, position_mask
from npllm.attention.multi_head import join_heads, split_heads
from npllm.attention.pytorch_interface import (
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.attention.variants.options import (
    BlockSparseMask,
    QKNorm,
    SlidingWindow,
    StridedMask,
    output_gate_backward,
    output_gate_forward,
)
from npllm.attention.variants.relative_bias import ALiBi, T5Bias, t5_bias_backward, t5_bias_forward
from npllm.attention.variants.rope import (
    LinearScaling,
    Llama3Scaling,
    NTKScaling,
    RoPE,
    YaRNScaling,
    rope_backward,
    rope_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_sequence, check_context_length, check_heads, check_positive
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear
from npllm.layers.normalization import RMSNorm


@dataclass(frozen=True)
class GQA:
    """The configuration of GroupedQueryAttention: the constructor's arguments apart from the model's sizes."""

    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    qkv_bias: bool = False
    qk_norm: QKNorm | None = None
    rope: RoPE | None = None
    softcap: float | None = None
    relative_bias: ALiBi | T5Bias | None = None
    window: SlidingWindow | None = None
    sparsity: StridedMask | BlockSparseMask | None = None
    output_gate: bool = False

    def build(
        self, d_model: int, context_length: int, dropout: float = 0.0, *, rng: np.random.Generator | None = None,
        dtype: Any = "float32", init: bool = True,
    ) -> "GroupedQueryAttention":  # fmt: skip
        """The layer."""
        return GroupedQueryAttention(d_model, context_length, dropout, **vars(self), rng=rng, dtype=dtype)


class GroupedQueryAttention(Attention):
    """y = join(softmax(causal(q kᵀ / √D)) v) W_oᵀ, query head h with key head h // (H/K)      (..., T, C) → (..., T, C)

    num_kv_heads    K, which must divide num_heads; num_heads unless given
    head_dim        D; d_model / num_heads unless given
    qk_norm         RMS norm of each head's queries and keys
    rope            rotary position embedding
    softcap         scores become softcap · tanh(scores / softcap)
    relative_bias   a term added to the scores: ALiBi or T5's
    window          a sliding window; the key-value cache then keeps the window alone
    sparsity        a pattern of masked pairs: StridedMask or BlockSparseMask
    output_gate     multiply the context by sigmoid(x W_gateᵀ)
    """

    def __init__(
        self, d_model: int, context_length: int, dropout: float, num_heads: int, num_kv_heads: int | None = None,
        head_dim: int | None = None, qkv_bias: bool = False, *, qk_norm: QKNorm | None = None,
        rope: RoPE | None = None, softcap: float | None = None, relative_bias: ALiBi | T5Bias | None = None,
        window: SlidingWindow | None = None, sparsity: StridedMask | BlockSparseMask | None = None,
        output_gate: bool = False, parts: dict | None = None, rng: np.random.Generator | None = None,
        dtype: Any = "float32",
    ) -> None:  # fmt: skip
        if parts is not None:
            found = options_from_parts(parts)
            qk_norm, rope, softcap = found.get("qk_norm"), found.get("rope"), found.get("softcap")
            relative_bias, window = found.get("relative_bias"), found.get("window")
            sparsity, output_gate = found.get("sparsity"), found.get("output_gate", False)
        num_kv_heads, head_dim = _check_sizes(d_model, num_heads, num_kv_heads, head_dim, context_length)
        _check_options(context_length, num_heads, head_dim, rope, softcap, relative_bias, sparsity)
        rng = as_generator(rng)
        self.context_length, self.num_heads, self.num_kv_heads = context_length, num_heads, num_kv_heads
        self.rope, self.softcap, self.relative_bias = rope, softcap, relative_bias
        self.window, self.sparsity = window, sparsity
        self.q_proj = Linear(d_model, num_heads * head_dim, bias=qkv_bias, rng=rng, dtype=dtype)
        self.k_proj = Linear(d_model, num_kv_heads * head_dim, bias=qkv_bias, rng=rng, dtype=dtype)
        self.v_proj = Linear(d_model, num_kv_heads * head_dim, bias=qkv_bias, rng=rng, dtype=dtype)
        self.o_proj = Linear(num_heads * head_dim, d_model, bias=False, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.q_norm = self.k_norm = self.relative_attention_bias = self.gate_proj = None
        if qk_norm is not None:
            self.q_norm = RMSNorm(head_dim, qk_norm.eps, dtype=dtype)
            self.k_norm = RMSNorm(head_dim, qk_norm.eps, dtype=dtype)
        if isinstance(relative_bias, T5Bias):
            self.relative_attention_bias = Embedding(relative_bias.num_buckets, num_heads, rng=rng, dtype=dtype)
        if output_gate:
            self.gate_proj = Linear(d_model, num_heads * head_dim, bias=False, rng=rng, dtype=dtype)

    def new_kv_cache(self, batch_size: int = 1, left_padding: Any = None) -> SequenceState:
        """An empty key-value cache; with a sliding window it keeps what later queries may attend to."""
        if self.window is not None:
            return SlidingWindowKVCache(self.window.size, self.window.num_sink_tokens, batch_size, left_padding)
        return KVCache(batch_size, left_padding)

    def __call__(self, x, kv_cache=None, document_ids=None):
        """The value, without the cache."""
        return self.forward(x, None, document_ids, kv_cache)[0]

    def forward(self, x, rng=None, document_ids=None, kv_cache=None):
        """The value; the cache holds those of the projections, of the options and of the core.

        kv_cache       from new_kv_cache: x follows what it holds, and is appended
        document_ids   integers (..., T): several documents in a row, none of which attends to another
        """
        positions, document_ids = self._positions(x, kv_cache, document_ids)
        cache = Cache()
        q, cache.q_proj = self.q_proj.forward(x)
        k, cache.k_proj = self.k_proj.forward(x)
        v, cache.v_proj = self.v_proj.forward(x)
        q = split_heads(q, self.num_heads)
        k, v = split_heads(k, self.num_kv_heads), split_heads(v, self.num_kv_heads)
        if self.q_norm is not None:
            q, cache.q_norm = self.q_norm.forward(q)
            k, cache.k_norm = self.k_norm.forward(k)
        if self.rope is not None:
            q, k, cache.rope = rope_forward(q, k, positions, self.rope)
        key_positions = positions
        if kv_cache is not None:
            k, v, key_positions = kv_cache.extend(k, v)
        bias, cache.bias = self._bias_forward(positions, key_positions, q.dtype)
        mask = self._mask(positions, key_positions, document_ids)
        dropout_mask = self.dropout.draw_dropout_mask((*q.shape[:-1], k.shape[-2]), rng, q.dtype)
        context, cache.attention = scaled_dot_product_attention_forward(
            q, k, v, mask, enable_gqa=True, softcap=self.softcap, bias=bias, dropout_mask=dropout_mask
        )
        context = join_heads(context)
        if self.gate_proj is not None:
            logits, cache.gate_proj = self.gate_proj.forward(x)
            context, cache.gate = output_gate_forward(context, logits)
        y, cache.o_proj = self.o_proj.forward(context)
        cache.dropout = Cache(dropout_mask=dropout_mask)
        return y, cache

    def backward(self, dy, cache):
        """dx; every line differentiates the line of `forward` that wrote the cache it reads."""
        dcontext, dx = self.o_proj.backward(dy, cache.o_proj), 0.0
        if self.gate_proj is not None:
            dcontext, dlogits = output_gate_backward(dcontext, cache.gate)
            dx = self.gate_proj.backward(dlogits, cache.gate_proj)
        dcontext = split_heads(dcontext, self.num_heads)
        dq, dk, dv, *dbias = scaled_dot_product_attention_backward(dcontext, cache.attention)
        if self.relative_attention_bias is not None:
            self.relative_attention_bias.add_grads(weight=t5_bias_backward(dbias[0], cache.bias))
        if self.rope is not None:
            dq, dk = rope_backward(dq, dk, cache.rope)
        if self.q_norm is not None:
            dq, dk = self.q_norm.backward(dq, cache.q_norm), self.k_norm.backward(dk, cache.k_norm)
        dx = dx + self.v_proj.backward(join_heads(dv), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)

    def _bias_forward(self, positions, key_positions, dtype):
        """The term that is added to the scores, or None; and the cache of T5's table."""
        if isinstance(self.relative_bias, ALiBi):
            return self.relative_bias.bias(self.num_heads, positions, key_positions, dtype), None
        if isinstance(self.relative_bias, T5Bias):
            weight, max_distance = self.relative_attention_bias.weight.data, self.relative_bias.max_distance
            return t5_bias_forward(weight, positions, key_positions, max_distance)
        return None, None

    def _mask(self, positions, key_positions, document_ids):
        """True where a query may attend to a key."""
        window = (None, 0) if self.window is None else (self.window.size, self.window.num_sink_tokens)
        mask = position_mask(positions, key_positions, *window)
        if document_ids is not None:
            mask = mask & document_mask(document_ids)
        if self.sparsity is not None:
            mask = mask & self.sparsity.mask(positions, key_positions)
        return mask

    def _positions(self, x, kv_cache, document_ids):
        length = as_sequence(x).shape[-2]
        if kv_cache is not None:
            reject_document_ids(document_ids)
            return kv_cache.positions(length), None
        check_context_length(length, self.context_length)
        document_ids = document_ids_per_head(document_ids, x)
        return np.arange(length) if document_ids is None else document_positions(document_ids), document_ids


PARTS = {  # to be removed with `parts`
    "query_key_norm": QKNorm, "rotary": RoPE, "alibi": ALiBi, "t5_bias": T5Bias, "soft_cap": QKNorm,
    "window": SlidingWindow, "strided": StridedMask, "blocks": BlockSparseMask, "gate": QKNorm,
}  # fmt: skip


def options_from_parts(parts: dict) -> dict:
    """The options that these dicts mean; to be removed with `parts`."""
    classes = {
        "query_key_norm": ("qk_norm", QKNorm), "rotary": ("rope", RoPE), "alibi": ("relative_bias", ALiBi),
        "t5_bias": ("relative_bias", T5Bias), "window": ("window", SlidingWindow), "strided": ("sparsity", StridedMask),
        "blocks": ("sparsity", BlockSparseMask),
    }  # fmt: skip
    renamed = {"base": "theta", "share": "partial_rotary_factor", "stretch": "scaling", "sinks": "num_sink_tokens"}
    found = {}
    for name, options in parts.items():
        if name == "soft_cap":
            found["softcap"] = options["cap"]
        elif name == "gate":
            found["output_gate"] = True
        else:
            option, cls = classes[name]
            options = {renamed.get(key, key): value for key, value in options.items()}
            if name == "blocks":
                options["block_size"] = options.pop("size")
            if options.get("scaling"):
                options["scaling"] = _scaling_from_dict(dict(options["scaling"]))
            found[option] = cls(**options)
    return found


def _scaling_from_dict(options):
    classes = {"linear": LinearScaling, "ntk": NTKScaling, "yarn": YaRNScaling, "llama3": Llama3Scaling}
    renamed = {"fast": "beta_fast", "slow": "beta_slow", "low_factor": "low_freq_factor",
               "high_factor": "high_freq_factor"}  # fmt: skip
    return classes[options.pop("kind")](**{renamed.get(key, key): value for key, value in options.items()})


def _check_sizes(d_model, num_heads, num_kv_heads, head_dim, context_length):
    """The number of key-value heads and head_dim, with their defaults."""
    check_positive(d_model=d_model, num_heads=num_heads, context_length=context_length)
    if head_dim is None:
        check_heads(num_heads, d_model=d_model)
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    head_dim = d_model // num_heads if head_dim is None else head_dim
    check_positive(num_kv_heads=num_kv_heads, head_dim=head_dim)
    if num_heads % num_kv_heads:
        raise ValueError(f"num_heads is {num_heads} and num_kv_heads {num_kv_heads}; num_kv_heads must divide it")
    return num_kv_heads, head_dim


def _check_options(context_length, num_heads, head_dim, rope, softcap, relative_bias, sparsity):
    """Raise ValueError for options that do not fit the sizes of the layer."""
    if rope is not None:
        rope.frequencies(head_dim)
    if softcap is not None and not 0 < softcap < np.inf:
        raise ValueError(f"softcap is {softcap}; it must be greater than 0 and finite, or None for no cap")
    if isinstance(relative_bias, ALiBi) and relative_bias.slopes and len(relative_bias.slopes) != num_heads:
        raise ValueError(f"slopes has {len(relative_bias.slopes)} numbers; it must have {num_heads}, one for each head")
    if sparsity is not None:
        sparsity.check_context_length(context_length)

"""Grouped-query attention: several query heads share one head of keys and values.

    x → q (H heads), k, v (K heads) → parts → [attention in each] → join the heads → projection

Over `causal_self_attention`: what must be remembered of a text are its keys and values, and reading them is what takes
the time when a text is written. With K < H there is H/K times less of them. K = H is multi-head attention, K = 1 is
multi-query attention. Here, too, the layer is open for parts: positions, norms, windows, gates; see part.py.

Ainslie et al. 2023, GQA; Shazeer 2019, Fast Transformer Decoding: One Write-Head is All You Need. The children carry
the names of Llama's published weights.
"""

import inspect

import numpy as np

from npllm.attention.base import Attention, document_ids_per_head, reject_document_ids
from npllm.attention.kv_cache import KVCache, SlidingWindowKVCache
from npllm.attention.masks import document_mask, document_positions, position_mask
from npllm.attention.multi_head import join_heads, split_heads
from npllm.attention.scaled_dot_product import (
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.attention.variants.hooks import (
    AttentionDims,
    BlockSparseMask,
    OutputGate,
    QKNorm,
    SlidingWindow,
    Softcap,
    StridedMask,
)
from npllm.attention.variants.relative_bias import ALiBi, T5Bias
from npllm.attention.variants.rope import RoPE
from npllm.core.cache import Cache
from npllm.core.checks import as_sequence, check_context_length, check_heads, check_positive
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear

PARTS = {
    "query_key_norm": QKNorm,
    "rotary": RoPE,
    "alibi": ALiBi,
    "t5_bias": T5Bias,
    "soft_cap": Softcap,
    "window": SlidingWindow,
    "strided": StridedMask,
    "blocks": BlockSparseMask,
    "gate": OutputGate,
}


class GroupedQueryAttention(Attention):
    """y = join(softmax(causal(q kᵀ / √D)) v) W_oᵀ, query head h with key head h // (H/K)      (..., T, C) → (..., T, C)

    num_kv_heads   K, which must divide num_heads; as many as query heads unless given
    head_dim      D, C / H unless given
    parts           {name: options} from PARTS, acting in this order: {"rotary": {"base": 1e6}, "window": {"size": 128}}
    """

    def __init__(
        self, d_model, context_length, dropout, num_heads, num_kv_heads=None, head_dim=None, qkv_bias=False,
        parts=None, *, rng=None, dtype="float32",
    ):  # fmt: skip
        widths = _check_widths(d_model, num_heads, num_kv_heads, head_dim, context_length)
        rng = as_generator(rng)
        self.widths, self.context_length, self.num_heads = widths, context_length, num_heads
        query_width, key_width = num_heads * widths.head_dim, widths.num_kv_heads * widths.head_dim
        self.q_proj = Linear(d_model, query_width, bias=qkv_bias, rng=rng, dtype=dtype)
        self.k_proj = Linear(d_model, key_width, bias=qkv_bias, rng=rng, dtype=dtype)
        self.v_proj = Linear(d_model, key_width, bias=qkv_bias, rng=rng, dtype=dtype)
        self.o_proj = Linear(query_width, d_model, bias=False, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.part_names = tuple(parts or {})
        for name, options in (parts or {}).items():
            setattr(self, name, _make_part(name, widths, options, rng, dtype))

    @property
    def parts(self):
        """The parts in the order in which they act."""
        return [getattr(self, name) for name in self.part_names]

    def new_kv_cache(self, batch_size=1, left_padding=None):
        """An empty past for reading a text piece by piece; with a window it forgets what nobody will see again."""
        if "window" in self.part_names:
            return SlidingWindowKVCache(self.window.size, self.window.sinks, batch_size, left_padding)
        return KVCache(batch_size, left_padding)

    def __call__(self, x, kv_cache=None, document_ids=None):
        """The value alone. With a `past` x follows what that has seen, and is added."""
        if kv_cache is None:
            return self.forward(x, None, document_ids)[0]
        reject_document_ids(document_ids)
        positions = kv_cache.positions(as_sequence(x).shape[-2])
        q, k, v = self._split(self.q_proj(x), self.k_proj(x), self.v_proj(x))
        for part in self.parts:
            q, k, _ = part.turn_forward(q, k, positions)
        k, v, key_positions = kv_cache.extend(k, v)
        bias, _ = self._bias(positions, key_positions, q.dtype)
        sight = self._sight(positions, key_positions, True)
        context = join_heads(scaled_dot_product_attention(q, k, v, enable_gqa=True, bias=bias, **sight))
        for part in self.parts:
            context, _ = part.gate_forward(context, x)
        return self.o_proj(context)

    def forward(self, x, rng=None, document_ids=None):
        """The value, and the caches of the projections, of the parts and of the core.

        `documents` (..., T) numbers the documents that stand in one row: none sees into another.
        """
        length = as_sequence(x).shape[-2]
        check_context_length(length, self.context_length)
        document_ids = document_ids_per_head(document_ids, x)
        positions = np.arange(length) if document_ids is None else document_positions(document_ids)
        q, q_proj = self.q_proj.forward(x)
        k, k_proj = self.k_proj.forward(x)
        v, v_proj = self.v_proj.forward(x)
        q, k, v = self._split(q, k, v)
        turns, gates = Cache(), Cache()
        for name, part in zip(self.part_names, self.parts):
            q, k, cache = part.turn_forward(q, k, positions)
            setattr(turns, name, cache)
        bias, biases = self._bias(positions, positions, q.dtype)
        sight = self._sight(positions, positions, False, document_ids)
        mask = self.dropout.draw_dropout_mask((*q.shape[:-1], length), rng, q.dtype)
        context, attention = scaled_dot_product_attention_forward(
            q, k, v, enable_gqa=True, dropout_mask=mask, bias=bias, **sight
        )
        context = join_heads(context)
        for name, part in zip(self.part_names, self.parts):
            context, cache = part.gate_forward(context, x)
            setattr(gates, name, cache)
        y, o_proj = self.o_proj.forward(context)
        return y, Cache(
            q_proj=q_proj, k_proj=k_proj, v_proj=v_proj, turns=turns, biases=biases, dropout=Cache(dropout_mask=mask),
            attention=attention, gates=gates, o_proj=o_proj,
        )  # fmt: skip

    def backward(self, dy, cache):
        """The forward, read from its last line to its first, the parts too."""
        backwards = list(zip(self.part_names, self.parts))[::-1]
        dcontext, dx = self.o_proj.backward(dy, cache.o_proj), 0.0
        for name, part in backwards:
            dcontext, dgate = part.gate_backward(dcontext, getattr(cache.gates, name))
            dx = dx if dgate is None else dx + dgate
        dcontext = split_heads(dcontext, self.num_heads)
        dq, dk, dv, *dbias = scaled_dot_product_attention_backward(dcontext, cache.attention)
        for name, part in backwards if dbias else ():
            part.bias_backward(dbias[0], getattr(cache.biases, name))
        for name, part in backwards:
            dq, dk = part.turn_backward(dq, dk, getattr(cache.turns, name))
        dx = dx + self.v_proj.backward(join_heads(dv), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)

    def _split(self, q, k, v):
        """Deal the channels out to the heads, of which keys and values may have fewer."""
        key_heads = self.widths.num_kv_heads
        return split_heads(q, self.num_heads), split_heads(k, key_heads), split_heads(v, key_heads)

    def _sight(self, positions, key_positions, has_past, document_ids=None):
        """Options for the core: who may look at whom, and the cap."""
        options, masks = {}, [part.mask(positions, key_positions) for part in self.parts]
        for part in self.parts:
            options |= part.limits()
        if document_ids is not None:
            masks.append(document_mask(document_ids))
        masks = [mask for mask in masks if mask is not None]
        if not has_past and not masks:
            return {"is_causal": True, **options}
        seen = position_mask(positions, key_positions, options.pop("window", None), options.pop("sinks", 0))
        for mask in masks:
            seen = seen & mask
        return {"attn_mask": seen, **options}

    def _bias(self, positions, key_positions, dtype):
        """The sum of what the parts add to the scores, None if they add nothing; and their caches by name."""
        total, caches = None, Cache()
        for name, part in zip(self.part_names, self.parts):
            bias, cache = part.bias_forward(positions, key_positions, dtype)
            setattr(caches, name, cache)
            if bias is not None:
                total = bias if total is None else total + bias
        return total, caches


def _check_widths(d_model, num_heads, num_kv_heads, head_dim, context_length):
    check_positive(d_model=d_model, num_heads=num_heads, context_length=context_length)
    if head_dim is None:
        check_heads(num_heads, d_model=d_model)
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    head_dim = d_model // num_heads if head_dim is None else head_dim
    check_positive(num_kv_heads=num_kv_heads, head_dim=head_dim)
    if num_heads % num_kv_heads:
        raise ValueError(f"num_heads is {num_heads} and num_kv_heads {num_kv_heads}; num_kv_heads must divide it")
    return AttentionDims(d_model, num_heads, num_kv_heads, head_dim, context_length)


def _make_part(name, widths, options, rng, dtype):
    if name not in PARTS:
        raise ValueError(f"parts has {name!r}; it must be one of {', '.join(PARTS)}")
    accepted = inspect.signature(PARTS[name]).parameters
    if unknown := sorted(set(options) - set(accepted) | set(options) & {"widths", "rng", "dtype"}):
        raise ValueError(f"parts has {name!r} with {unknown[0]!r}; it must be one of {', '.join(list(accepted)[1:])}")
    learned = {key: value for key, value in {"rng": rng, "dtype": dtype}.items() if key in accepted}
    return PARTS[name](widths, **options, **learned)

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

from npllm import functional as F
from npllm.attention.alibi import ALiBi
from npllm.attention.base import Attention, documents_for_heads, sequence, whole_text
from npllm.attention.gate import Gate
from npllm.attention.multi_head import join_heads, split_heads
from npllm.attention.part import Widths
from npllm.attention.past import KeyValuePast, WindowPast
from npllm.attention.query_key_norm import QueryKeyNorm
from npllm.attention.rotary import Rotary
from npllm.attention.soft_cap import SoftCap
from npllm.attention.sparse import Blocks, Strided
from npllm.attention.t5_bias import T5Bias
from npllm.attention.window import Window
from npllm.functional.cache import Cache
from npllm.functional.checks import at_least_one, fits_context, heads_divide
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.module import generator

PARTS = {
    "query_key_norm": QueryKeyNorm,
    "rotary": Rotary,
    "alibi": ALiBi,
    "t5_bias": T5Bias,
    "soft_cap": SoftCap,
    "window": Window,
    "strided": Strided,
    "blocks": Blocks,
    "gate": Gate,
}


class GroupedQueryAttention(Attention):
    """y = join(softmax(causal(q kᵀ / √D)) v) W_oᵀ, query head h with key head h // (H/K)      (..., T, C) → (..., T, C)

    num_key_heads   K, which must divide num_heads; as many as query heads unless given
    head_width      D, C / H unless given
    parts           {name: options} from PARTS, acting in this order: {"rotary": {"base": 1e6}, "window": {"size": 128}}
    """

    def __init__(
        self, d_model, context_length, dropout, num_heads, num_key_heads=None, head_width=None, qkv_bias=False,
        parts=None, *, rng=None, dtype="float32",
    ):  # fmt: skip
        widths = _check_widths(d_model, num_heads, num_key_heads, head_width, context_length)
        rng = generator(rng)
        self.widths, self.context_length, self.num_heads = widths, context_length, num_heads
        query_width, key_width = num_heads * widths.head_width, widths.num_key_heads * widths.head_width
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

    def start_past(self, batch_size=1, padding=None):
        """An empty past for reading a text piece by piece; with a window it forgets what nobody will see again."""
        if "window" in self.part_names:
            return WindowPast(self.window.size, self.window.sinks, batch_size, padding)
        return KeyValuePast(batch_size, padding)

    def __call__(self, x, past=None, documents=None):
        """The value alone. With a `past` x follows what that has seen, and is added."""
        if past is None:
            return self.forward(x, None, documents)[0]
        whole_text(documents)
        places = past.places(sequence(x).shape[-2])
        q, k, v = self._split(self.q_proj(x), self.k_proj(x), self.v_proj(x))
        for part in self.parts:
            q, k, _ = part.turn_forward(q, k, places)
        k, v, key_places = past.extend(k, v)
        bias, _ = self._bias(places, key_places, q.dtype)
        sight = self._sight(places, key_places, True)
        context = join_heads(F.scaled_dot_product_attention(q, k, v, enable_gqa=True, bias=bias, **sight))
        for part in self.parts:
            context, _ = part.gate_forward(context, x)
        return self.o_proj(context)

    def forward(self, x, rng=None, documents=None):
        """The value, and the caches of the projections, of the parts and of the core.

        `documents` (..., T) numbers the documents that stand in one row: none sees into another.
        """
        length = sequence(x).shape[-2]
        fits_context(length, self.context_length)
        documents = documents_for_heads(documents, x)
        places = np.arange(length) if documents is None else F.document_places(documents)
        q, q_proj = self.q_proj.forward(x)
        k, k_proj = self.k_proj.forward(x)
        v, v_proj = self.v_proj.forward(x)
        q, k, v = self._split(q, k, v)
        turns, gates = Cache(), Cache()
        for name, part in zip(self.part_names, self.parts):
            q, k, cache = part.turn_forward(q, k, places)
            setattr(turns, name, cache)
        bias, biases = self._bias(places, places, q.dtype)
        sight = self._sight(places, places, False, documents)
        mask = self.dropout.draw_mask((*q.shape[:-1], length), rng, q.dtype)
        context, attention = F.scaled_dot_product_attention_forward(
            q, k, v, enable_gqa=True, dropout_mask=mask, bias=bias, **sight
        )
        context = join_heads(context)
        for name, part in zip(self.part_names, self.parts):
            context, cache = part.gate_forward(context, x)
            setattr(gates, name, cache)
        y, o_proj = self.o_proj.forward(context)
        return y, Cache(
            q_proj=q_proj, k_proj=k_proj, v_proj=v_proj, turns=turns, biases=biases, dropout=Cache(mask=mask),
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
        dq, dk, dv, *dbias = F.scaled_dot_product_attention_backward(dcontext, cache.attention)
        for name, part in backwards if dbias else ():
            part.bias_backward(dbias[0], getattr(cache.biases, name))
        for name, part in backwards:
            dq, dk = part.turn_backward(dq, dk, getattr(cache.turns, name))
        dx = dx + self.v_proj.backward(join_heads(dv), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)

    def _split(self, q, k, v):
        """Deal the channels out to the heads, of which keys and values may have fewer."""
        key_heads = self.widths.num_key_heads
        return split_heads(q, self.num_heads), split_heads(k, key_heads), split_heads(v, key_heads)

    def _sight(self, places, key_places, has_past, documents=None):
        """Options for the core: who may look at whom, and the cap."""
        options, masks = {}, [part.mask(places, key_places) for part in self.parts]
        for part in self.parts:
            options |= part.limits()
        if documents is not None:
            masks.append(F.document_mask(documents))
        masks = [mask for mask in masks if mask is not None]
        if not has_past and not masks:
            return {"is_causal": True, **options}
        seen = F.visible(places, key_places, options.pop("window", None), options.pop("sinks", 0))
        for mask in masks:
            seen = seen & mask
        return {"attn_mask": seen, **options}

    def _bias(self, places, key_places, dtype):
        """The sum of what the parts add to the scores, None if they add nothing; and their caches by name."""
        total, caches = None, Cache()
        for name, part in zip(self.part_names, self.parts):
            bias, cache = part.bias_forward(places, key_places, dtype)
            setattr(caches, name, cache)
            if bias is not None:
                total = bias if total is None else total + bias
        return total, caches


def _check_widths(d_model, num_heads, num_key_heads, head_width, context_length):
    at_least_one(d_model=d_model, num_heads=num_heads, context_length=context_length)
    if head_width is None:
        heads_divide(num_heads, d_model=d_model)
    num_key_heads = num_heads if num_key_heads is None else num_key_heads
    head_width = d_model // num_heads if head_width is None else head_width
    at_least_one(num_key_heads=num_key_heads, head_width=head_width)
    if num_heads % num_key_heads:
        raise ValueError(f"num_heads is {num_heads} and num_key_heads {num_key_heads}; num_key_heads must divide it")
    return Widths(d_model, num_heads, num_key_heads, head_width, context_length)


def _make_part(name, widths, options, rng, dtype):
    if name not in PARTS:
        raise ValueError(f"parts has {name!r}; it must be one of {', '.join(PARTS)}")
    accepted = inspect.signature(PARTS[name]).parameters
    if unknown := sorted(set(options) - set(accepted) | set(options) & {"widths", "rng", "dtype"}):
        raise ValueError(f"parts has {name!r} with {unknown[0]!r}; it must be one of {', '.join(list(accepted)[1:])}")
    learned = {key: value for key, value in {"rng": rng, "dtype": dtype}.items() if key in accepted}
    return PARTS[name](widths, **options, **learned)

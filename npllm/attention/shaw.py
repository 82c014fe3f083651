"""Relative positions by Shaw et al.: a vector for each distance, compared like a key and averaged like a value.

    x → q, k, v → [attention over k + a(distance), v + b(distance)] → join the heads → projection

Over `multi_head`: where T5 learns one number for a distance, here are two vectors, so a query may ask for "the noun two
back", and what is brought home may say from how far it comes. Beyond `max_distance` all distances look alike.

Shaw, Uszkoreit, Vaswani 2018, Self-Attention with Relative Position Representations, section 3.
"""

import math

import numpy as np

from npllm import functional as F
from npllm.attention.base import Attention, documents_for_heads, sequence, whole_text
from npllm.attention.multi_head import join_heads, split_heads
from npllm.attention.past import KeyValuePast
from npllm.functional.cache import Cache
from npllm.functional.checks import at_least_one, fits_context, heads_divide
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.module import Parameter, generator


class RelativePositionAttention(Attention):
    """y = join(Σ_s A_ts (v_s + b_{t−s})) W_oᵀ,  A = softmax(causal(q_t · (k_s + a_{t−s}) / √D))      (..., T, C) → (..., T, C)

    `key_table` and `value_table` (max_distance + 1, D), shared by all heads, hold a and b; the last row is for every
    distance from max_distance on.
    """  # noqa: E501

    def __init__(self, d_model, context_length, dropout, num_heads, max_distance=16, *, rng=None, dtype="float32"):
        heads_divide(num_heads, d_model=d_model)
        at_least_one(context_length=context_length, max_distance=max_distance)
        rng, width = generator(rng), d_model // num_heads
        self.context_length, self.num_heads, self.max_distance = context_length, num_heads, max_distance
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype) for _ in range(4)
        )
        bound = 1.0 / math.sqrt(width)
        self.key_table, self.value_table = (
            Parameter(rng.uniform(-bound, bound, (max_distance + 1, width)).astype(dtype)) for _ in range(2)
        )
        self.dropout = Dropout(dropout)

    def start_past(self, batch_size=1, padding=None):
        """An empty past: keys and values, as in plain attention."""
        return KeyValuePast(batch_size, padding)

    def __call__(self, x, past=None, documents=None):
        """The value alone. With a `past` x follows what that has seen, and is added."""
        if past is None:
            return self.forward(x, None, documents)[0]
        whole_text(documents)
        places = past.places(sequence(x).shape[-2])
        q, k, v = (split_heads(proj(x), self.num_heads) for proj in (self.q_proj, self.k_proj, self.v_proj))
        k, v, key_places = past.extend(k, v)
        context = F.relative_attention(
            q, k, v, self.key_table.data, self.value_table.data, self._buckets(places, key_places),
            F.visible(places, key_places),
        )  # fmt: skip
        return self.o_proj(join_heads(context))

    def forward(self, x, rng=None, documents=None):
        """The value, and the caches of the projections and of the core; `documents`: see GroupedQueryAttention."""
        length = sequence(x).shape[-2]
        fits_context(length, self.context_length)
        places, documents = np.arange(length), documents_for_heads(documents, x)
        seen = F.causal_mask(length, length) if documents is None else F.document_mask(documents)
        q, q_proj = self.q_proj.forward(x)
        k, k_proj = self.k_proj.forward(x)
        v, v_proj = self.v_proj.forward(x)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        mask = self.dropout.draw_mask((*q.shape[:-1], length), rng, q.dtype)
        context, attention = F.relative_attention_forward(
            q, k, v, self.key_table.data, self.value_table.data, self._buckets(places, places), seen, mask
        )
        y, o_proj = self.o_proj.forward(join_heads(context))
        return y, Cache(q_proj=q_proj, k_proj=k_proj, v_proj=v_proj, dropout=Cache(mask=mask), attention=attention,
                        o_proj=o_proj)  # fmt: skip

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        dq, dk, dv, dkey_table, dvalue_table = F.relative_attention_backward(dcontext, cache.attention)
        self.key_table.add_grad(dkey_table)
        self.value_table.add_grad(dvalue_table)
        dx = self.v_proj.backward(join_heads(dv), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)

    def _buckets(self, places, key_places):
        """The row of the tables for each pair; what lies ahead is masked, and may have any row."""
        return np.clip(F.distances(places, key_places), 0, self.max_distance)

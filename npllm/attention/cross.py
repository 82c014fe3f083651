"""Cross-attention: queries from one sequence, keys and values from another.

    x → q ─────────────┐
    context → k, v ─ [attention] → join the heads → projection

Over `multi_head`: the decoder of a translation looks at the sentence it translates, or a text at a picture. Nothing is
causal about it, for the context is there as a whole; but a context that was filled up to the length of others needs a
mask. This is how attention came into the world, see additive.py, before a sequence was found to gain from looking at
itself.

Vaswani et al. 2017, Attention Is All You Need, section 3.2.3.
"""

from npllm.attention.base import Attention
from npllm.attention.multi_head import join_heads, split_heads
from npllm.attention.scaled_dot_product import (
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_sequence, check_heads
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear


class CrossAttention(Attention):
    """y = join(softmax(q kᵀ / √D) v) W_oᵀ,  q from x, k and v from context      (..., T, C), (..., S, I) → (..., T, C)

    `d_context` is I, d_model unless given.
    """

    def __init__(self, d_model, num_heads, d_context=None, dropout=0.0, qkv_bias=False, *, rng=None, dtype="float32"):
        check_heads(num_heads, d_model=d_model)
        rng = as_generator(rng)
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.q_proj = Linear(d_model, d_model, bias=qkv_bias, rng=rng, dtype=dtype)
        self.k_proj = Linear(d_context, d_model, bias=qkv_bias, rng=rng, dtype=dtype)
        self.v_proj = Linear(d_context, d_model, bias=qkv_bias, rng=rng, dtype=dtype)
        self.o_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)

    def attention_weights(self, x, context, mask=None):
        """The weights of all heads, (..., H, T, S): the alignment of x with the context."""
        return self.forward(x, context, mask=mask)[1].attention.weights

    def remember(self, context):
        """The keys and values of a context, to be given as `past` to many calls: they do not change while x grows."""
        return tuple(split_heads(proj(as_sequence(context)), self.num_heads) for proj in (self.k_proj, self.v_proj))

    def __call__(self, x, context=None, mask=None, kv_cache=None):
        """The value alone, for a context or for what `remember` made of it."""
        if kv_cache is None:
            return self.forward(x, context, mask=mask)[0]
        if context is not None:
            raise ValueError("context and past are both set; past is what remember(context) gave, so leave out one")
        q = split_heads(self.q_proj(as_sequence(x)), self.num_heads)
        return self.o_proj(join_heads(scaled_dot_product_attention(q, *kv_cache, mask)))

    def forward(self, x, context, rng=None, mask=None):
        """The value, and the caches of the projections and of the core.

        `mask` is boolean, True: may look; broadcastable to (..., H, T, S); see functional.padding_mask.
        """
        q, q_proj = self.q_proj.forward(as_sequence(x))
        k, k_proj = self.k_proj.forward(as_sequence(context))
        v, v_proj = self.v_proj.forward(context)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        drop = self.dropout.draw_dropout_mask((*q.shape[:-1], k.shape[-2]), rng, q.dtype)
        found, attention = scaled_dot_product_attention_forward(q, k, v, mask, dropout_mask=drop)
        y, o_proj = self.o_proj.forward(join_heads(found))
        return y, Cache(
            q_proj=q_proj, k_proj=k_proj, v_proj=v_proj, dropout=Cache(dropout_mask=drop), attention=attention,
            o_proj=o_proj,
        )  # fmt: skip

    def backward(self, dy, cache):
        """The gradients of x and of the context."""
        dfound = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        dqkv = scaled_dot_product_attention_backward(dfound, cache.attention)
        dq, dk, dv = (join_heads(gradient) for gradient in dqkv)
        dcontext = self.v_proj.backward(dv, cache.v_proj) + self.k_proj.backward(dk, cache.k_proj)
        return self.q_proj.backward(dq, cache.q_proj), dcontext

"""Cross-attention: queries from one sequence, keys and values from another.

    x → q ─────────────┐
    context → k, v ─ [attention] → join the heads → projection

This differs from multi_head.py in where keys and values come from: the decoder of a translation attends to the source
sentence, a text model to an image. It is not causal, because the context is complete; a padded context needs a mask.
In translation this was the first use of attention, see before_transformers/additive.py.

Vaswani et al. 2017, Attention Is All You Need, section 3.2.3.
"""

import numpy as np

from npllm.attention.base import Attention, join_heads, project_backward, project_forward, split_heads
from npllm.attention.paths import masked_attention_backward, masked_attention_forward
from npllm.core.cache import Cache
from npllm.core.checks import as_sequence, check_heads, check_positive, check_probability
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear


class CrossAttention(Attention):
    """y = join(softmax(q kᵀ / √D) v) W_oᵀ,  q from x, k and v from context      (..., T, C), (..., S, I) → (..., T, C)

    `d_context` is I, d_model unless given. Raises ValueError if num_heads does not divide d_model.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        dropout: float = 0.0,
        qkv_bias: bool = False,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        check_heads(num_heads, d_model=d_model)
        d_context = d_model if d_context is None else d_context
        check_positive(d_context=d_context)
        self.num_heads = num_heads
        self.q_proj = Linear(d_model, d_model, bias=qkv_bias, dtype=dtype, init=False)
        self.k_proj = Linear(d_context, d_model, bias=qkv_bias, dtype=dtype, init=False)
        self.v_proj = Linear(d_context, d_model, bias=qkv_bias, dtype=dtype, init=False)
        self.o_proj = Linear(d_model, d_model, bias=False, dtype=dtype, init=False)
        self.dropout = Dropout(check_probability("dropout", dropout))
        if init:
            self.init_weights(as_generator(rng))

    def attention_weights(self, x: np.ndarray, context: np.ndarray, *, mask: np.ndarray | None = None) -> np.ndarray:
        """The weights of all heads, (..., H, T, S): the alignment of x with the context."""
        return self.forward(x, context, mask=mask)[1].attention.weights

    def precompute_kv(self, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The keys and values of a context, (..., H, S, D) each: they do not change when x gets longer."""
        return self._keys_and_values(context)[0]

    def forward(
        self,
        x: np.ndarray,
        context: np.ndarray | None = None,
        *,
        rng: np.random.Generator | None = None,
        mask: np.ndarray | None = None,
        kv: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the projections, of the dropout and of the core.

        mask   boolean, True: may attend; broadcastable to (..., H, T, S); see masks.padding_mask
        kv     what precompute_kv(context) returned, instead of the context; such a forward has no backward
        """
        if (context is None) == (kv is None):
            raise ValueError("exactly one of context and kv must be given; kv is what precompute_kv(context) returned")
        q, q_proj = self.q_proj.forward(as_sequence(x))
        q = split_heads(q, self.num_heads)
        (k, v), projections = (kv, None) if kv is not None else self._keys_and_values(context)
        dropout_mask = self.dropout.draw_dropout_mask((*q.shape[:-1], k.shape[-2]), rng, q.dtype)
        found, attention = masked_attention_forward(q, k, v, mask, dropout_mask=dropout_mask)
        y, o_proj = self.o_proj.forward(join_heads(found))
        dropout = Cache(dropout_mask=dropout_mask)
        return y, Cache(q_proj=q_proj, projections=projections, dropout=dropout, attention=attention, o_proj=o_proj)

    def backward(self, dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of x and of the context."""
        dfound = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        dq, dk, dv = (join_heads(gradient) for gradient in masked_attention_backward(dfound, cache.attention))
        dcontext = project_backward((dk, dv), cache.projections, (self.k_proj, self.v_proj))
        return self.q_proj.backward(dq, cache.q_proj), dcontext

    def _keys_and_values(self, context):
        kv, projections = project_forward(as_sequence(context, "context"), (self.k_proj, self.v_proj))
        return tuple(split_heads(projected, self.num_heads) for projected in kv), projections

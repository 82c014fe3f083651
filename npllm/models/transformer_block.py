"""The transformer block: attention gathers from other positions, the feed-forward network works on what it found.

    x ─┬─ norm → attention → dropout ─ + ─┬─ norm → feed-forward → dropout ─ + → y
       └───────────────────────────────┘  └──────────────────────────────────┘

Each half adds to what came in instead of replacing it. Backward, the two sums let the gradient pass unchanged along
the lower line, however many blocks there are.

Radford et al. 2019 (GPT-2), section 2.3, norm before the sub-layer; Raschka, section 4.5.
"""

from npllm.attention.causal_self_attention import CausalSelfAttention
from npllm.core.cache import Cache
from npllm.core.module import Module, as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.feed_forward import FeedForward
from npllm.layers.normalization import LayerNorm


class TransformerBlock(Module):
    """x = x + attn(ln_1(x)),  y = x + mlp(ln_2(x))      (..., T, C) → (..., T, C)

    `dropout` acts on what each half adds, `attn_dropout` (the same unless given) on the attention weights. The
    children carry GPT-2's names.
    """

    def __init__(
        self,
        d_model,
        context_length,
        dropout,
        num_heads,
        qkv_bias=True,
        attn_dropout=None,
        eps=1e-5,
        *,
        rng=None,
        dtype="float32",
    ):
        rng = as_generator(rng)
        attn_dropout = dropout if attn_dropout is None else attn_dropout
        self.ln_1 = LayerNorm(d_model, eps, dtype=dtype)
        self.attn = CausalSelfAttention(
            d_model, context_length, attn_dropout, num_heads, qkv_bias, rng=rng, dtype=dtype
        )
        self.drop_1 = Dropout(dropout)
        self.ln_2 = LayerNorm(d_model, eps, dtype=dtype)
        self.mlp = FeedForward(d_model, rng=rng, dtype=dtype)
        self.drop_2 = Dropout(dropout)

    def __call__(self, x, kv_cache=None):
        """The value alone; no cache outlives its line. `past`: see CausalSelfAttention."""
        x = x + self.attn(self.ln_1(x), kv_cache)
        return x + self.mlp(self.ln_2(x))

    def forward(self, x, rng=None):
        """The value, and the cache of every step by the children's names."""
        normed, ln_1 = self.ln_1.forward(x)
        gathered, attn = self.attn.forward(normed, rng)
        added, drop_1 = self.drop_1.forward(gathered, rng=rng)
        x = x + added
        normed, ln_2 = self.ln_2.forward(x)
        worked, mlp = self.mlp.forward(normed)
        added, drop_2 = self.drop_2.forward(worked, rng=rng)
        return x + added, Cache(ln_1=ln_1, attn=attn, drop_1=drop_1, ln_2=ln_2, mlp=mlp, drop_2=drop_2)

    def backward(self, dy, cache):
        """The forward, read from its last line to its first; at each sum the gradient goes both ways."""
        dworked = self.drop_2.backward(dy, cache.drop_2)
        dx = dy + self.ln_2.backward(self.mlp.backward(dworked, cache.mlp), cache.ln_2)
        dgathered = self.drop_1.backward(dx, cache.drop_1)
        return dx + self.ln_1.backward(self.attn.backward(dgathered, cache.attn), cache.ln_1)

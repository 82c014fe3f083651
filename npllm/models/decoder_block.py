"""The blocks of a decoder: attention and a feed-forward network, each added to the residual stream.

    pre_norm        x ← x + attention(norm(x));        y = x + mlp(norm(x))           Llama, Mistral, Qwen
    post_norm       x ← x + norm(attention(x));        y = x + norm(mlp(x))           OLMo 2
    sandwich_norm   x ← x + norm(attention(norm(x)));  y = x + norm(mlp(norm(x)))     Gemma 2 and 3
    parallel        y = x + attention(norm(x)) + mlp(norm(x)), each with its norm     GPT-NeoX
    shared_norm     y = x + attention(h) + mlp(h),  h = norm(x)                       GPT-J, Cohere

The norms of one block are different layers. A norm before a layer bounds its input; a norm after it bounds what is
added to the residual stream. In the parallel blocks both terms depend on the same x, so their matrix products can be
joined into one.

Touvron et al. 2023, LLaMA, section 2.2; OLMo Team 2024, 2 OLMo 2 Furious, section 3.2; Gemma Team 2024, Gemma 2,
section 2; Black et al. 2022, GPT-NeoX-20B, section 2.1. The names of the children are those of the published weights:
`post_attention_layernorm` is the norm before the network in the first and fourth kind, and that after attention in the
second and third.
"""

from typing import Any, ClassVar

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats
from npllm.core.module import Module, as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.normalization import LayerNorm, RMSNorm
from npllm.models.decoder_config import AttentionConfig, FeedForwardConfig, Norm

Forward = tuple[np.ndarray, Cache]


class DecoderBlock(Module):
    """x = x + m · self_attn(input_layernorm(x)),  y = x + m · mlp(post_attention_layernorm(x))

    (..., T, C) → (..., T, C)

    attention, feed_forward, norm   configurations as in DecoderConfig
    residual_multiplier             m, in this kind of block only; Granite's
    """

    norm_names: ClassVar[tuple[str, ...]] = ("input_layernorm", "post_attention_layernorm")
    input_layernorm: LayerNorm | RMSNorm  # a kind of block has those that its norm_names say
    post_attention_layernorm: LayerNorm | RMSNorm
    pre_feedforward_layernorm: LayerNorm | RMSNorm
    post_feedforward_layernorm: LayerNorm | RMSNorm

    def __init__(
        self,
        d_model: int,
        context_length: int,
        attention: AttentionConfig,
        feed_forward: FeedForwardConfig,
        norm: Norm,
        dropout: float = 0.0,
        residual_multiplier: float = 1.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        self.residual_multiplier = residual_multiplier
        for name in self.norm_names:
            setattr(self, name, norm.build(d_model, dtype=dtype))
        self.self_attn = attention.build(d_model, context_length, dropout, dtype=dtype, init=False)
        self.drop_1 = Dropout(dropout)
        self.mlp = feed_forward.build(d_model, dtype=dtype, init=False)
        self.drop_2 = Dropout(dropout)
        if init:
            self.init_weights(as_generator(rng))

    def forward(self, x: np.ndarray, *, rng: np.random.Generator | None = None, **options: Any) -> Forward:
        """y, and the cache of every step by the children's names; `kv_cache` and `document_ids` are for attention."""
        x, cache = as_floats(x=x), Cache()
        h, cache.input_layernorm = self.input_layernorm.forward(x)
        h, cache.self_attn = self.self_attn.forward(h, rng=rng, **options)
        h, cache.drop_1 = self.drop_1.forward(h, rng=rng)
        x = x + self.residual_multiplier * h
        h, cache.post_attention_layernorm = self.post_attention_layernorm.forward(x)
        h, cache.mlp = self.mlp.forward(h)
        h, cache.drop_2 = self.drop_2.forward(h, rng=rng)
        return x + self.residual_multiplier * h, cache

    def backward(self, dy: np.ndarray, cache: Cache, daux_loss: float = 0.0) -> np.ndarray:
        """y = x + m h, so dx = dy + the gradient through h, and dh = m dy; `daux_loss` is for a mixture of experts."""
        dy = as_floats(dy=dy)
        dh = self.drop_2.backward(self.residual_multiplier * dy, cache.drop_2)
        dh = self._mlp_backward(dh, cache.mlp, daux_loss)
        dx = dy + self.post_attention_layernorm.backward(dh, cache.post_attention_layernorm)
        dh = self.drop_1.backward(self.residual_multiplier * dx, cache.drop_1)
        dh = self.self_attn.backward(dh, cache.self_attn)
        return dx + self.input_layernorm.backward(dh, cache.input_layernorm)

    def _mlp_backward(self, dh: np.ndarray, cache: Cache, daux_loss: float) -> np.ndarray:
        """The gradient of the network's input; a mixture of experts has an auxiliary loss besides its output."""
        return self.mlp.backward(dh, cache, *([daux_loss] if hasattr(cache, "aux_loss") else []))


class PostNormBlock(DecoderBlock):
    """x = x + post_attention_layernorm(self_attn(x)),  y = x + post_feedforward_layernorm(mlp(x))

    (..., T, C) → (..., T, C)
    """

    norm_names = ("post_attention_layernorm", "post_feedforward_layernorm")

    def forward(self, x: np.ndarray, *, rng: np.random.Generator | None = None, **options: Any) -> Forward:
        """y, and the cache of every step by the children's names."""
        x, cache = as_floats(x=x), Cache()
        h, cache.self_attn = self.self_attn.forward(x, rng=rng, **options)
        h, cache.post_attention_layernorm = self.post_attention_layernorm.forward(h)
        h, cache.drop_1 = self.drop_1.forward(h, rng=rng)
        x = x + h
        h, cache.mlp = self.mlp.forward(x)
        h, cache.post_feedforward_layernorm = self.post_feedforward_layernorm.forward(h)
        h, cache.drop_2 = self.drop_2.forward(h, rng=rng)
        return x + h, cache

    def backward(self, dy: np.ndarray, cache: Cache, daux_loss: float = 0.0) -> np.ndarray:
        """y = x + h, so the gradient goes to both terms."""
        dy = as_floats(dy=dy)
        dh = self.drop_2.backward(dy, cache.drop_2)
        dh = self.post_feedforward_layernorm.backward(dh, cache.post_feedforward_layernorm)
        dx = dy + self._mlp_backward(dh, cache.mlp, daux_loss)
        dh = self.drop_1.backward(dx, cache.drop_1)
        dh = self.post_attention_layernorm.backward(dh, cache.post_attention_layernorm)
        return dx + self.self_attn.backward(dh, cache.self_attn)


class SandwichNormBlock(DecoderBlock):
    """x = x + post_attention_layernorm(self_attn(input_layernorm(x))),

    y = x + post_feedforward_layernorm(mlp(pre_feedforward_layernorm(x)))      (..., T, C) → (..., T, C)
    """

    norm_names = (
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    )  # fmt: skip

    def forward(self, x: np.ndarray, *, rng: np.random.Generator | None = None, **options: Any) -> Forward:
        """y, and the cache of every step by the children's names."""
        x, cache = as_floats(x=x), Cache()
        h, cache.input_layernorm = self.input_layernorm.forward(x)
        h, cache.self_attn = self.self_attn.forward(h, rng=rng, **options)
        h, cache.post_attention_layernorm = self.post_attention_layernorm.forward(h)
        h, cache.drop_1 = self.drop_1.forward(h, rng=rng)
        x = x + h
        h, cache.pre_feedforward_layernorm = self.pre_feedforward_layernorm.forward(x)
        h, cache.mlp = self.mlp.forward(h)
        h, cache.post_feedforward_layernorm = self.post_feedforward_layernorm.forward(h)
        h, cache.drop_2 = self.drop_2.forward(h, rng=rng)
        return x + h, cache

    def backward(self, dy: np.ndarray, cache: Cache, daux_loss: float = 0.0) -> np.ndarray:
        """y = x + h, so the gradient goes to both terms."""
        dy = as_floats(dy=dy)
        dh = self.drop_2.backward(dy, cache.drop_2)
        dh = self.post_feedforward_layernorm.backward(dh, cache.post_feedforward_layernorm)
        dh = self._mlp_backward(dh, cache.mlp, daux_loss)
        dx = dy + self.pre_feedforward_layernorm.backward(dh, cache.pre_feedforward_layernorm)
        dh = self.drop_1.backward(dx, cache.drop_1)
        dh = self.post_attention_layernorm.backward(dh, cache.post_attention_layernorm)
        dh = self.self_attn.backward(dh, cache.self_attn)
        return dx + self.input_layernorm.backward(dh, cache.input_layernorm)


class ParallelBlock(DecoderBlock):
    """y = x + self_attn(input_layernorm(x)) + mlp(post_attention_layernorm(x))      (..., T, C) → (..., T, C)"""

    def forward(self, x: np.ndarray, *, rng: np.random.Generator | None = None, **options: Any) -> Forward:
        """y, and the cache of every step by the children's names."""
        x, cache = as_floats(x=x), Cache()
        h, cache.input_layernorm = self.input_layernorm.forward(x)
        h, cache.self_attn = self.self_attn.forward(h, rng=rng, **options)
        attended, cache.drop_1 = self.drop_1.forward(h, rng=rng)
        h, cache.post_attention_layernorm = self.post_attention_layernorm.forward(x)
        h, cache.mlp = self.mlp.forward(h)
        h, cache.drop_2 = self.drop_2.forward(h, rng=rng)
        return x + attended + h, cache

    def backward(self, dy: np.ndarray, cache: Cache, daux_loss: float = 0.0) -> np.ndarray:
        """The gradient of a sum goes to all three terms; each contributes to dx."""
        dy = as_floats(dy=dy)
        dh = self._mlp_backward(self.drop_2.backward(dy, cache.drop_2), cache.mlp, daux_loss)
        dx = dy + self.post_attention_layernorm.backward(dh, cache.post_attention_layernorm)
        dh = self.self_attn.backward(self.drop_1.backward(dy, cache.drop_1), cache.self_attn)
        return dx + self.input_layernorm.backward(dh, cache.input_layernorm)


class SharedNormBlock(DecoderBlock):
    """y = x + self_attn(h) + mlp(h),  h = input_layernorm(x)      (..., T, C) → (..., T, C)"""

    norm_names = ("input_layernorm",)

    def forward(self, x: np.ndarray, *, rng: np.random.Generator | None = None, **options: Any) -> Forward:
        """y, and the cache of every step by the children's names."""
        x, cache = as_floats(x=x), Cache()
        normalized, cache.input_layernorm = self.input_layernorm.forward(x)
        h, cache.self_attn = self.self_attn.forward(normalized, rng=rng, **options)
        attended, cache.drop_1 = self.drop_1.forward(h, rng=rng)
        h, cache.mlp = self.mlp.forward(normalized)
        h, cache.drop_2 = self.drop_2.forward(h, rng=rng)
        return x + attended + h, cache

    def backward(self, dy: np.ndarray, cache: Cache, daux_loss: float = 0.0) -> np.ndarray:
        """Both layers have the same input h, so dh is the sum of their gradients."""
        dy = as_floats(dy=dy)
        dh = self._mlp_backward(self.drop_2.backward(dy, cache.drop_2), cache.mlp, daux_loss)
        dh = dh + self.self_attn.backward(self.drop_1.backward(dy, cache.drop_1), cache.self_attn)
        return dy + self.input_layernorm.backward(dh, cache.input_layernorm)


BLOCKS = {  # DecoderConfig.block
    "pre_norm": DecoderBlock,
    "post_norm": PostNormBlock,
    "sandwich_norm": SandwichNormBlock,
    "parallel": ParallelBlock,
    "shared_norm": SharedNormBlock,
}

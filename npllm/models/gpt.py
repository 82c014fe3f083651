"""GPT: embeddings, a stack of transformer blocks, a norm, and a head that says what may come next.

    ids → token + position → block → … → block → norm → head → logits → loss

Every position is asked at once: the logits at position t speak of the token at t + 1. The names are those of GPT-2's
published weights; the head is the table of token embeddings once more, read the other way round.

Radford et al. 2019 (GPT-2), sections 2 and 2.3; Raschka, chapter 4.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from npllm.attention.kv_cache import ModelKVCache
from npllm.core.cache import Cache
from npllm.core.checks import check_context_length, check_heads, check_positive, check_probability
from npllm.core.module import Blank, Module, as_generator
from npllm.layers.cross_entropy import cross_entropy, cross_entropy_backward, cross_entropy_forward
from npllm.layers.dropout import Dropout
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear
from npllm.layers.normalization import LayerNorm
from npllm.layers.positions import LearnedPositionalEmbedding
from npllm.models.transformer_block import TransformerBlock
from npllm.weights import gpt2 as hugging_face

GPT2_SIZES = {  # (num_layers, num_heads, d_model)
    "124M": (12, 12, 768),
    "355M": (24, 16, 1024),
    "774M": (36, 20, 1280),
    "1558M": (48, 25, 1600),
}


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. `tied`: the head shares its array with the table of token embeddings."""

    vocab_size: int = 50257
    context_length: int = 1024
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    qkv_bias: bool = True
    tied: bool = True
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    residual_dropout: float = 0.0
    layer_norm_eps: float = 1e-5

    def __post_init__(self):
        check_positive(
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            d_model=self.d_model,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
        )
        for name in ("embedding_dropout", "attention_dropout", "residual_dropout"):
            check_probability(name, getattr(self, name))
        check_heads(self.num_heads, d_model=self.d_model)

    @classmethod
    def gpt2(cls, size, **changes):
        """The shape of OpenAI's "124M", "355M", "774M" or "1558M", with `changes` to single fields."""
        if size not in GPT2_SIZES:
            raise ValueError(f"size is {size!r}; it must be one of {', '.join(GPT2_SIZES)}")
        num_layers, num_heads, d_model = GPT2_SIZES[size]
        return replace(cls(num_layers=num_layers, num_heads=num_heads, d_model=d_model), **changes)


class GPT(Module):
    """logits = lm_head(ln_f(h[L−1](… h[0](wte[ids] + wpe))))      (..., T) → (..., T, V)

    Weights start as GPT-2's: normal with standard deviation 0.02, biases 0; the two projections of each block that add
    to the stream start smaller by √(2 · num_layers), so that the sum of all blocks has the same size at any depth.
    """

    def __init__(self, config, *, rng=None, dtype="float32"):
        rng, blank = as_generator(rng), Blank()  # the layers' own way to start is not GPT-2's, so they need not draw
        self.config, self.context_length, c = config, config.context_length, config
        self.wte = Embedding(c.vocab_size, c.d_model, rng=blank, dtype=dtype)
        self.wpe = LearnedPositionalEmbedding(c.context_length, c.d_model, rng=blank, dtype=dtype)
        self.drop = Dropout(c.embedding_dropout)
        self.h = [
            TransformerBlock(
                c.d_model, c.context_length, c.residual_dropout, c.num_heads, c.qkv_bias, c.attention_dropout,
                c.layer_norm_eps, rng=blank, dtype=dtype,
            )
            for _ in range(c.num_layers)
        ]  # fmt: skip
        self.ln_f = LayerNorm(c.d_model, c.layer_norm_eps, dtype=dtype)
        self.lm_head = Linear(c.d_model, c.vocab_size, bias=False, rng=blank, dtype=dtype)
        if c.tied:
            self.lm_head.weight = self.wte.weight  # the same Parameter: both uses add to one gradient
        self._start_as_gpt2(rng)

    def _start_as_gpt2(self, rng):
        for name, parameter in self.named_parameters():
            if parameter.data.ndim == 2:
                depth = 2 * self.config.num_layers if name.endswith("c_proj.weight") else 1
                parameter.data[...] = rng.standard_normal(parameter.shape, dtype=np.float32)
                parameter.data *= 0.02 / math.sqrt(depth)

    def new_kv_cache(self, batch_size=1, left_padding=None):
        """An empty past for reading a text piece by piece: the keys and values of every layer."""
        return ModelKVCache(
            self.context_length, [block.attn.new_kv_cache(batch_size, left_padding) for block in self.h]
        )

    def __call__(self, ids, kv_cache=None):
        """The logits alone. With a `past` (see new_kv_cache) ids follow what it has seen, and are added."""
        return self.lm_head(self.hidden_states(ids, kv_cache))

    def hidden_states(self, ids, kv_cache=None):
        """What the head reads, (..., T, C): to know the last position's logits, nobody need compute the others."""
        x = self.wte(_sequence(ids)) + self.wpe.weight.data[self._places(ids, kv_cache)]
        for index, block in enumerate(self.h):
            x = block(x, kv_cache and kv_cache.layers[index])
        return self.ln_f(x)

    def forward(self, ids, rng=None):
        """The logits, and the cache of every layer by name. With a generator, dropout is active."""
        tokens, wte = self.wte.forward(_sequence(ids))
        positions, wpe = self.wpe.forward(tokens.shape[-2])
        x, drop = self.drop.forward(tokens + positions, rng=rng)
        h = []
        for block in self.h:
            x, cache = block.forward(x, rng)
            h.append(cache)
        x, ln_f = self.ln_f.forward(x)
        logits, lm_head = self.lm_head.forward(x)
        return logits, Cache(wte=wte, wpe=wpe, drop=drop, h=h, ln_f=ln_f, lm_head=lm_head)

    def backward(self, dlogits, cache):
        """The forward, read from its last line to its first. Ids have no gradient, so nothing is returned."""
        dx = self.ln_f.backward(self.lm_head.backward(dlogits, cache.lm_head), cache.ln_f)
        for block, block_cache in zip(reversed(self.h), reversed(cache.h)):
            dx = block.backward(dx, block_cache)
        dx = self.drop.backward(dx, cache.drop)
        self.wpe.backward(dx, cache.wpe)
        self.wte.backward(dx, cache.wte)

    def loss(self, ids, targets):
        """loss = mean over all positions of −ln softmax(logits)[target]      (..., T), (..., T) → ()

        Positions whose target is −100 do not count.
        """
        return cross_entropy(self(ids), targets)

    def loss_forward(self, ids, targets, rng=None):
        """The loss, and the caches of the model and of the cross-entropy."""
        logits, model = self.forward(ids, rng)
        loss, cross_entropy = cross_entropy_forward(logits, targets)
        return loss, Cache(model=model, cross_entropy=cross_entropy)

    def loss_backward(self, dloss, cache):
        """Add dloss times the gradient of the loss to every parameter's `grad`."""
        self.backward(cross_entropy_backward(dloss, cache.cross_entropy), cache.model)

    def _places(self, ids, kv_cache):
        """The position of every id: 0, 1, 2 …, or where the past ends."""
        length = np.shape(ids)[-1]
        if kv_cache is not None:
            return kv_cache.positions(length)
        check_context_length(length, self.context_length)
        return np.arange(length)

    @classmethod
    def from_pretrained(cls, path, dtype="float32"):
        """Read GPT-2 weights in Hugging Face's layout: a folder with config.json and model.safetensors, or such a file.

        The file is mapped into memory and copied once, into the model. Raises FileNotFoundError, or ValueError saying
        what is wrong: a file that is not whole, another architecture, a tensor of another shape.
        """
        fields, state = hugging_face.load(path)
        model = cls(GPTConfig(**fields), rng=Blank(), dtype=dtype)
        model.load_state_dict(state)
        return model

    def save_pretrained(self, folder):
        """Write config.json and model.safetensors into a folder, as transformers' GPT2LMHeadModel reads them."""
        fields = {name: getattr(self.config, name) for name in self.config.__dataclass_fields__}
        hugging_face.save(folder, fields, self.state_dict())


def _sequence(ids):
    ids = np.asarray(ids)
    if ids.ndim == 0:
        raise ValueError("ids is a single number; it must be a sequence (T) or a batch of them (B, T)")
    return ids

"""GPT: embeddings, a stack of transformer blocks, a norm, and a head that scores every token of the vocabulary.

    ids → token + position embedding → block → … → block → norm → head → logits → loss

Every position is a prediction: the logits at position t are scores for the token at position t + 1. The names are those
of GPT-2's published weights; the head's weight is the matrix of token embeddings.

Radford et al. 2019 (GPT-2), sections 2 and 2.3; Raschka, chapter 4.
"""

import math
from dataclasses import asdict, dataclass, replace
from os import PathLike

import numpy as np

from npllm.attention.kv_cache import ModelKVCache
from npllm.core.broadcasting import unbroadcast
from npllm.core.cache import Cache
from npllm.core.checks import as_id_sequence, check_heads, check_probability
from npllm.core.module import as_generator
from npllm.layers.activations import Activation, check_activation
from npllm.layers.dropout import Dropout
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear
from npllm.layers.normalization import LayerNorm
from npllm.models.config_types import check_types
from npllm.models.language_model import LanguageModel, layer_cache
from npllm.models.one_position import block_forward
from npllm.models.recompute import block_backward, input_only_forward
from npllm.models.transformer_block import TransformerBlock
from npllm.weights import gpt2
from npllm.weights.fitting import load_into
from npllm.weights.model_folder import check_dtype

GPT2_SIZES = {  # (num_layers, num_heads, d_model)
    "124M": (12, 12, 768),
    "355M": (24, 16, 1024),
    "774M": (36, 20, 1280),
    "1558M": (48, 25, 1600),
}


@dataclass(frozen=True)
class GPTConfig:
    """The hyperparameters of a GPT.

    tied             the head and the token embedding have one weight
    d_hidden         of the feed-forward networks; 4 d_model unless given
    activation       of the feed-forward networks, a name of layers/activations.py
    scale_scores     divide q kᵀ by √D
    scale_by_layer   divide q kᵀ of layer i = 0, 1, … by i + 1, as Mistral's GPT-2 models do
    """

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
    d_hidden: int | None = None
    activation: Activation = "gelu_tanh"
    scale_scores: bool = True
    scale_by_layer: bool = False

    def __post_init__(self) -> None:
        check_types(
            self,
            sizes=("vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_hidden"),
            numbers=("embedding_dropout", "attention_dropout", "residual_dropout", "layer_norm_eps"),
            flags=("qkv_bias", "tied", "scale_scores", "scale_by_layer"),
        )
        for name in ("embedding_dropout", "attention_dropout", "residual_dropout"):
            check_probability(name, getattr(self, name))
        if self.layer_norm_eps < 0:
            raise ValueError(f"layer_norm_eps is {self.layer_norm_eps}; it must be at least 0")
        check_heads(self.num_heads, d_model=self.d_model)
        check_activation(self.activation)

    def scale_of(self, layer: int) -> float | None:
        """The factor of q kᵀ in layer 0, 1, …; None for 1/√D."""
        if self.scale_scores and not self.scale_by_layer:
            return None
        scale = 1.0 / math.sqrt(self.d_model // self.num_heads) if self.scale_scores else 1.0
        return scale / (layer + 1) if self.scale_by_layer else scale

    @classmethod
    def gpt2(cls, size: str, **changes) -> "GPTConfig":
        """The configuration of OpenAI's "124M", "355M", "774M" or "1558M", with `changes` of single fields."""
        if size not in GPT2_SIZES:
            raise ValueError(f"size is {size!r}; it must be one of {', '.join(GPT2_SIZES)}")
        num_layers, num_heads, d_model = GPT2_SIZES[size]
        return replace(cls(num_layers=num_layers, num_heads=num_heads, d_model=d_model), **changes)


class GPT(LanguageModel):
    """logits = lm_head(ln_f(h[L−1](… h[0](wte[ids] + wpe[positions]))))      (..., T) → (..., T, V)"""

    def __init__(
        self,
        config: GPTConfig,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        if not isinstance(config, GPTConfig):
            raise TypeError(f"config is {config!r:.80}; it must be a GPTConfig")
        check_dtype(dtype)
        c = config
        self.config, self.context_length = config, config.context_length
        self.wte = Embedding(c.vocab_size, c.d_model, dtype=dtype, init=False)
        self.wpe = Embedding(c.context_length, c.d_model, dtype=dtype, init=False)
        self.drop = Dropout(c.embedding_dropout)
        self.h = [self._new_block(layer, dtype) for layer in range(c.num_layers)]
        self.ln_f = LayerNorm(c.d_model, c.layer_norm_eps, dtype=dtype)
        self.lm_head = Linear(c.d_model, c.vocab_size, bias=False, dtype=dtype, init=False)
        if c.tied:
            self.lm_head.weight = self.wte.weight  # the same Parameter: both uses add to one gradient
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw GPT-2's initial weights: all matrices from N(0, 0.02²); biases are 0 and norms 1.

        The two projections of each block that add to the residual stream have a standard deviation smaller by
        √(2 · num_layers), so that the variance of the sum of all blocks does not grow with their number.
        """
        for name, parameter in self.named_parameters():
            if parameter.data.ndim == 2:
                depth = 2 * self.config.num_layers if name.endswith("c_proj.weight") else 1
                parameter.data[...] = rng.standard_normal(parameter.shape, dtype=np.float32)
                parameter.data *= 0.02 / math.sqrt(depth)
            else:
                parameter.data[...] = 0 if name.endswith(".bias") else 1

    def backbone_forward(
        self,
        ids: np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        kv_cache: ModelKVCache | None = None,
        keep: bool = True,
        recompute: bool = False,
    ) -> tuple[np.ndarray, Cache]:
        """The hidden states (..., T, C) after the last norm, and the cache of every layer by name."""
        ids = as_id_sequence("ids", ids)
        tokens, wte = self.wte.forward(ids)
        positions, wpe = self.wpe.forward(self._positions(ids.shape[-1], kv_cache))
        x, drop = self.drop.forward(tokens + positions, rng=rng)
        h = []
        for index, block in enumerate(self.h):
            kv = layer_cache(kv_cache, index)
            if recompute and keep:
                x, cache = input_only_forward(block, x, rng=rng, kv_cache=kv)
            else:
                x, cache = block_forward(block, x, keep, rng=rng, kv_cache=kv)
            h.append(cache)
        x, ln_f = self.ln_f.forward(x)
        return x, Cache(wte=wte, wpe=wpe, drop=drop, h=h, ln_f=ln_f)

    def backbone_backward(self, dx: np.ndarray, cache: Cache) -> None:
        """The steps of the forward in reverse order; the positions are the same for all sequences of a batch."""
        dx = self.ln_f.backward(dx, cache.ln_f)
        for block, block_cache in zip(reversed(self.h), reversed(cache.h)):
            dx = block_backward(block, dx, block_cache)
        dx = self.drop.backward(dx, cache.drop)
        self.wpe.backward(unbroadcast(dx, (*cache.wpe.ids.shape, dx.shape[-1])), cache.wpe)
        self.wte.backward(dx, cache.wte)

    def new_kv_cache(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> ModelKVCache:
        """An empty cache of the keys and values of every layer."""
        return ModelKVCache(
            self.context_length, [block.attn.new_kv_cache(batch_size, left_padding) for block in self.h]
        )

    @classmethod
    def from_pretrained(cls, path: str | PathLike, dtype: str = "float32") -> "GPT":
        """Read GPT-2 weights in Hugging Face's layout: a folder with config.json and model.safetensors, or such a file.

        The file is mapped into memory and copied once, into the model. Raises OSError, or FileError that says what is
        wrong: a truncated file, another architecture, a tensor of another shape.
        """
        check_dtype(dtype)
        fields, state = gpt2.load(path)
        return load_into(lambda: cls(GPTConfig(**fields), dtype=dtype, init=False), state, path)

    def save_pretrained(self, folder: str | PathLike) -> None:
        """Write config.json and model.safetensors into a folder, as transformers' GPT2LMHeadModel reads them."""
        gpt2.save(folder, asdict(self.config), self.state_dict())

    def _new_block(self, layer: int, dtype: str) -> TransformerBlock:
        c = self.config
        return TransformerBlock(
            c.d_model,
            c.context_length,
            c.residual_dropout,
            c.num_heads,
            c.qkv_bias,
            c.attention_dropout,
            c.layer_norm_eps,
            d_hidden=c.d_hidden,
            activation=c.activation,
            scale=c.scale_of(layer),
            dtype=dtype,
            init=False,
        )

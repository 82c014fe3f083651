"""A decoder composed of parts: any attention, any positions, any norm, any feed-forward network, any kind of block.

    ids → embedding (+ positions) → block → … → block → norm → head → logits → loss

gpt.py is one model. Here the same steps are written for a configuration that chooses each part, see decoder_config.py;
the blocks are in decoder_block.py.
The names of the children are those of Llama's published weights.

Touvron et al. 2023, LLaMA, section 2.2.
"""

import math
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from npllm.attention.kv_cache import ModelKVCache
from npllm.attention.masks import document_positions
from npllm.attention.softcap import softcap_backward, softcap_forward
from npllm.core.cache import Cache
from npllm.core.checks import as_id_sequence
from npllm.core.module import as_generator
from npllm.layers.cross_entropy import cross_entropy_backward
from npllm.layers.dropout import Dropout
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear
from npllm.layers.positions import sinusoidal_positions
from npllm.models.decoder_block import BLOCKS
from npllm.models.decoder_config import DecoderConfig
from npllm.models.hugging_face import hugging_face_config, read_decoder_config
from npllm.models.language_model import LanguageModel, layer_cache
from npllm.models.one_position import block_forward
from npllm.models.recompute import block_backward, input_only_forward
from npllm.weights import llama
from npllm.weights.fitting import check_sizes, load_into
from npllm.weights.model_folder import check_dtype, read_config

RESIDUAL_PROJECTIONS = ("o_proj.weight", "down_proj.weight", "c_proj.weight")  # their output is added to the residual


class Decoder(LanguageModel):
    """logits = lm_head(norm(layers[L−1](… layers[0](embed_tokens[ids] + positions))))      (..., T) → (..., T, V)

    The embeddings are multiplied, the logits divided and soft-capped where the configuration says so.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        if not isinstance(config, DecoderConfig):
            raise TypeError(f"config is {config!r:.80}; it must be a DecoderConfig")
        check_dtype(dtype)
        c = config
        self.config, self.context_length = config, config.context_length
        self.embed_tokens = Embedding(c.vocab_size, c.d_model, dtype=dtype, init=False)
        if c.positions == "learned":
            self.embed_positions = Embedding(c.context_length, c.d_model, dtype=dtype, init=False)
        self.drop = Dropout(c.dropout)
        self.layers = [
            BLOCKS[c.block](
                c.d_model,
                c.context_length,
                c.attention_of(layer),
                c.feed_forward_of(layer),
                c.norm,
                c.dropout,
                c.residual_multiplier,
                dtype=dtype,
                init=False,
            )
            for layer in range(c.num_layers)
        ]
        self.norm = c.norm.build(c.d_model, dtype=dtype)
        self.lm_head = Linear(c.d_model, c.vocab_size, bias=False, dtype=dtype, init=False)
        if c.tied:
            self.lm_head.weight = self.embed_tokens.weight  # the same Parameter: both uses add to one gradient
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw all matrices from N(0, 0.02²) as in GPT; biases are 0, and vectors as their layers initialize them.

        The two projections of each block that add to the residual stream have a standard deviation smaller by
        √(2 · num_layers).
        """
        for block in self.layers:
            block.init_weights(rng)
        for name, parameter in self.named_parameters():
            if parameter.data.ndim == 2:
                depth = 2 * self.config.num_layers if name.endswith(RESIDUAL_PROJECTIONS) else 1
                parameter.data[...] = rng.standard_normal(parameter.shape, dtype=np.float32)
                parameter.data *= 0.02 / math.sqrt(depth)
            elif name.endswith(".bias"):
                parameter.data[...] = 0

    def backbone_forward(
        self,
        ids: np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        kv_cache: ModelKVCache | None = None,
        document_ids: np.ndarray | None = None,
        keep: bool = True,
        recompute: bool = False,
    ) -> tuple[np.ndarray, Cache]:
        """The hidden states (..., T, C) after the last norm, and the cache of every layer by name.

        `document_ids` (..., T): several documents packed into one sequence; each starts at position 0, and no position
        attends to another document.
        """
        ids = as_id_sequence("ids", ids)
        x, embed_tokens = self.embed_tokens.forward(ids)
        x = x * self.config.embedding_multiplier
        positions = self._positions(ids.shape[-1], kv_cache)
        if document_ids is not None:
            positions = document_positions(document_ids)
        x, embed_positions = self._add_positions(x, np.broadcast_to(positions, ids.shape))
        x, drop = self.drop.forward(x, rng=rng)
        layers = []
        for index, block in enumerate(self.layers):
            kv = layer_cache(kv_cache, index)
            if recompute and keep:
                x, cache = input_only_forward(block, x, rng=rng, kv_cache=kv, document_ids=document_ids)
            else:
                x, cache = block_forward(block, x, keep, rng=rng, kv_cache=kv, document_ids=document_ids)
            layers.append(cache)
        x, norm = self.norm.forward(x)
        return x, Cache(embed_tokens=embed_tokens, embed_positions=embed_positions, drop=drop, layers=layers, norm=norm)

    def backbone_backward(self, dx: np.ndarray, cache: Cache, daux_loss: float = 0.0) -> None:
        """The steps of the forward in reverse order; `daux_loss` is the gradient of each router's auxiliary loss."""
        dx = self.norm.backward(dx, cache.norm)
        for block, block_cache in zip(reversed(self.layers), reversed(cache.layers)):
            dx = block_backward(block, dx, block_cache, daux_loss)
        dx = self.drop.backward(dx, cache.drop)
        if self.config.positions == "learned":
            self.embed_positions.backward(dx, cache.embed_positions)
        self.embed_tokens.backward(dx * self.config.embedding_multiplier, cache.embed_tokens)

    def head_forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """logits = softcap(lm_head(x) / logits_scaling)      (..., C) → (..., V); the cache is that of both steps."""
        logits, cache = super().head_forward(x)
        if self.config.logits_scaling != 1.0:
            logits = logits / self.config.logits_scaling
        if self.config.logits_softcap is not None:
            logits, cache.softcap = softcap_forward(logits, self.config.logits_softcap)
        return logits, cache

    def head_backward(self, dlogits: np.ndarray, cache: Cache) -> np.ndarray:
        """dx through the soft cap, the division and the linear map."""
        if self.config.logits_softcap is not None:
            dlogits = softcap_backward(dlogits, cache.softcap)
        if self.config.logits_scaling != 1.0:
            dlogits = dlogits / self.config.logits_scaling
        return super().head_backward(dlogits, cache)

    def loss_forward(self, ids: np.ndarray, targets: np.ndarray, **options) -> tuple[np.ndarray, Cache]:
        """The loss, plus aux_loss_coef times the mean of the routers' auxiliary losses; and the caches."""
        loss, cache = super().loss_forward(ids, targets, **options)
        aux_loss, cache.aux_scale = self._aux_loss(cache.model)
        return loss + loss.dtype.type(aux_loss), cache

    def loss_backward(self, dloss: float, cache: Cache) -> None:
        """Add dloss times the gradient of the loss to the gradient of every parameter."""
        dlogits = cross_entropy_backward(dloss, cache.cross_entropy)
        dx = self.head_backward(dlogits, cache.model)
        self.backbone_backward(dx, cache.model, float(dloss) * cache.aux_scale)

    def _finish_backward(self, dx: np.ndarray, cache: Cache, dloss: float, dtype: Any) -> Any:
        """The backward of the backbone; returns the routers' part of the loss."""
        aux_loss, aux_scale = self._aux_loss(cache)
        self.backbone_backward(dx, cache, float(dloss) * aux_scale)
        return dtype.type(aux_loss)

    def _aux_loss(self, cache: Cache) -> tuple[float, float]:
        """aux_loss_coef times the mean of the routers' auxiliary losses, and the factor of each of them."""
        aux_losses = [block.mlp.aux_loss for block in cache.layers if hasattr(block.mlp, "aux_loss")]
        scale = self.config.aux_loss_coef / max(len(aux_losses), 1)
        return scale * sum(aux_losses), scale

    def _head_options(self) -> dict[str, Any]:
        """The division and the soft cap of the logits."""
        return {"logits_scaling": self.config.logits_scaling, "logits_softcap": self.config.logits_softcap}

    def new_kv_cache(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> ModelKVCache:
        """An empty cache: for each layer what its attention keeps of a sequence."""
        layers = [block.self_attn.new_kv_cache(batch_size, left_padding) for block in self.layers]
        return ModelKVCache(self.context_length, layers)

    @classmethod
    def from_pretrained(cls, path: str | PathLike, dtype: str = "float32") -> "Decoder":
        """Read a decoder in Hugging Face's layout (Llama, Qwen, Gemma, …), or what save_pretrained wrote.

        `path` is a folder with config.json and safetensors files. Raises OSError, or FileError that says what is wrong:
        a truncated file, an architecture that npllm does not have, a tensor of another shape.
        """
        check_dtype(dtype)
        fields, config_path = read_config(path)
        config = read_decoder_config(config_path, fields)
        state, is_tied = llama.load_weights(path, fields | _head_counts(config), config.tied)
        config = replace(config, tied=is_tied)
        shapes = {"embed_tokens.weight": (config.vocab_size, config.d_model)}
        if config.positions == "learned":
            shapes["embed_positions.weight"] = (config.context_length, config.d_model)
        sizes, experts = _sizes_of_parts(config), _num_experts(config)
        check_sizes(path, state, shapes, "layers.", config.num_layers, sizes, experts)
        return load_into(lambda: cls(config, dtype=dtype, init=False), state, path)

    def save_pretrained(self, folder: str | PathLike) -> None:
        """Write config.json and model.safetensors into a folder, for transformers if it has a model of this shape."""
        llama.save(folder, hugging_face_config(self.config), self.state_dict(), self.config.tied)

    def _add_positions(self, x, positions):
        """x plus the embedding or encoding of its positions, and the cache of the embedding."""
        if self.config.positions == "learned":
            rows, cache = self.embed_positions.forward(positions)
            return x + rows, cache
        if self.config.positions == "sinusoidal":
            table = sinusoidal_positions(self.context_length, self.config.d_model, dtype=x.dtype)
            return x + table[positions], None
        return x, None


def _head_counts(config: DecoderConfig) -> dict[str, int]:
    """The numbers of heads of the first layer, by the names of config.json; defaults are written out."""
    attention = config.attention_of(0)
    heads = attention.num_heads
    return {"num_attention_heads": heads, "num_key_value_heads": getattr(attention, "num_kv_heads", None) or heads}


def _sizes_of_parts(config: DecoderConfig) -> dict[str, int]:
    """The sizes of axes that the configurations of the parts choose."""
    parts: list[Any] = [config.attention_of(layer) for layer in range(config.num_layers)]
    parts += [config.feed_forward_of(layer) for layer in range(config.num_layers)]
    names = ("num_heads", "head_dim", "d_hidden", "kv_lora_rank", "q_lora_rank")
    return {name: max(getattr(part, name, None) or 0 for part in parts) for name in names}


def _num_experts(config: DecoderConfig) -> int:
    """The number of experts in all layers."""
    return sum(getattr(config.feed_forward_of(layer), "num_experts", 0) for layer in range(config.num_layers))

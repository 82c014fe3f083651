"""A decoder put together from parts: any attention, any positions, any norm, any feed-forward network.

    ids → embedding (+ positions) → block → … → block → norm → head → logits → loss

`gpt.py` is one model, at one sight. Here the same walk is written once, and what stands at each station is chosen by
name, see decoder_config.py. The names of the children are those of Llama's published weights.

Touvron et al. 2023, LLaMA, section 2.2.
"""

import math

import numpy as np

from npllm.attention.kv_cache import ModelKVCache
from npllm.attention.masks import document_positions
from npllm.core.cache import Cache
from npllm.core.checks import check_context_length
from npllm.core.module import Blank, Module, as_generator
from npllm.layers.cross_entropy import cross_entropy, cross_entropy_backward, cross_entropy_forward
from npllm.layers.dropout import Dropout
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear
from npllm.layers.positions import sinusoidal_positions
from npllm.models.decoder_config import ATTENTIONS, FEED_FORWARDS, NORMS, DecoderConfig, choices, make
from npllm.weights import llama as hugging_face_decoder

ADDING = ("o_proj.weight", "down_proj.weight", "c_proj.weight")  # what writes into the stream


class Decoder(Module):
    """logits = lm_head(norm(layers[L−1](… layers[0](embed_tokens[ids] + positions))))      (..., T) → (..., T, V)

    Weights start normal with standard deviation 0.02, those of the two maps of each block that add to the stream
    smaller by √(2 · num_layers), as in GPT.
    """

    def __init__(self, config, *, rng=None, dtype="float32"):
        rng = as_generator(rng)
        self.config, self.context_length, c = config, config.context_length, config
        self.embed_tokens = Embedding(c.vocab_size, c.d_model, rng=Blank(), dtype=dtype)
        if c.positions == "learned":
            self.embed_positions = Embedding(c.context_length, c.d_model, rng=Blank(), dtype=dtype)
        self.drop = Dropout(c.dropout)
        attentions, feed_forwards = choices(c.attention), choices(c.feed_forward)
        self.layers = [
            DecoderBlock(
                c.d_model, c.context_length, attentions[i % len(attentions)], feed_forwards[i % len(feed_forwards)],
                c.norm, c.dropout, rng=rng, dtype=dtype,
            )
            for i in range(c.num_layers)
        ]  # fmt: skip
        self.norm = make(NORMS, c.norm, c.d_model, dtype=dtype)
        self.lm_head = Linear(c.d_model, c.vocab_size, bias=False, rng=Blank(), dtype=dtype)
        if c.tied:
            self.lm_head.weight = self.embed_tokens.weight  # the same Parameter: both uses add to one gradient
        self._start(rng)

    def _start(self, rng):
        for name, parameter in self.named_parameters():
            if parameter.data.ndim == 2:
                depth = 2 * self.config.num_layers if name.endswith(ADDING) else 1
                parameter.data[...] = rng.standard_normal(parameter.shape, dtype=np.float32)
                parameter.data *= 0.02 / math.sqrt(depth)
            elif name.endswith(".bias"):
                parameter.data[...] = 0

    def new_kv_cache(self, batch_size=1, left_padding=None):
        """An empty past for reading a text piece by piece: one for each layer, whatever that remembers."""
        return ModelKVCache(
            self.context_length, [block.self_attn.new_kv_cache(batch_size, left_padding) for block in self.layers]
        )

    def __call__(self, ids, kv_cache=None, document_ids=None):
        """The logits alone. With a `past` ids follow what it has seen, and are added. `documents`: see forward."""
        return self.lm_head(self.hidden_states(ids, kv_cache, document_ids))

    def hidden_states(self, ids, kv_cache=None, document_ids=None):
        """What the head reads, (..., T, C): to know the last position's logits, nobody need compute the others."""
        ids = _sequence(ids)
        x, _ = self._positions_forward(self.embed_tokens(ids), self._places(ids.shape, kv_cache, document_ids))
        for index, block in enumerate(self.layers):
            x = block(x, kv_cache and kv_cache.layers[index], document_ids)
        return self.norm(x)

    def forward(self, ids, rng=None, document_ids=None):
        """The logits, and the cache of every layer by name. With a generator, dropout is active.

        `documents` (..., T) numbers the documents that stand in one row: none sees into another, and each begins at
        position 0.
        """
        ids = _sequence(ids)
        x, embed_tokens = self.embed_tokens.forward(ids)
        x, embed_positions = self._positions_forward(x, self._places(ids.shape, None, document_ids))
        x, drop = self.drop.forward(x, rng=rng)
        caches = []
        for block in self.layers:
            x, cache = block.forward(x, rng, document_ids)
            caches.append(cache)
        x, norm = self.norm.forward(x)
        logits, lm_head = self.lm_head.forward(x)
        return logits, Cache(
            embed_tokens=embed_tokens, embed_positions=embed_positions, drop=drop, layers=caches, norm=norm,
            lm_head=lm_head,
        )  # fmt: skip

    def backward(self, dlogits, cache, daux_loss=0.0):
        """The forward, read from its last line to its first. Ids have no gradient, so nothing is returned."""
        dx = self.norm.backward(self.lm_head.backward(dlogits, cache.lm_head), cache.norm)
        for block, block_cache in zip(reversed(self.layers), reversed(cache.layers)):
            dx = block.backward(dx, block_cache, daux_loss)
        dx = self.drop.backward(dx, cache.drop)
        if self.config.positions == "learned":
            self.embed_positions.backward(dx, cache.embed_positions)
        self.embed_tokens.backward(dx, cache.embed_tokens)

    def loss(self, ids, targets, document_ids=None):
        """loss = mean over all positions of −ln softmax(logits)[target]      (..., T), (..., T) → ()

        Positions whose target is −100 do not count. The auxiliary loss of the routers is not part of it.
        """
        return cross_entropy(self(ids, document_ids=document_ids), targets)

    def loss_forward(self, ids, targets, rng=None, document_ids=None):
        """The loss, plus `aux_loss_coef` times the mean auxiliary loss; and the caches of model and cross-entropy."""
        logits, model = self.forward(ids, rng, document_ids)
        loss, cross_entropy = cross_entropy_forward(logits, targets)
        aux_losses = [cache.mlp.aux_loss for cache in model.layers if hasattr(cache.mlp, "aux_loss")]
        slope = self.config.aux_loss_coef / max(len(aux_losses), 1)
        return loss + loss.dtype.type(slope * sum(aux_losses)), Cache(
            model=model, cross_entropy=cross_entropy, slope=slope
        )

    def loss_backward(self, dloss, cache):
        """Add dloss times the gradient of the loss to every parameter's `grad`."""
        dlogits = cross_entropy_backward(dloss, cache.cross_entropy)
        self.backward(dlogits, cache.model, float(dloss) * cache.slope)

    @classmethod
    def from_pretrained(cls, path, dtype="float32"):
        """Read a Llama, Mistral, Qwen2, Qwen3 or Mixtral in Hugging Face's layout, or what save_pretrained wrote.

        `path` is a folder with config.json and safetensors files. Raises FileNotFoundError, or ValueError saying what
        is wrong: a file that is not whole, an architecture that npllm does not have, a tensor of another shape.
        """
        fields, state = hugging_face_decoder.load(path)
        model = cls(DecoderConfig(**fields), rng=Blank(), dtype=dtype)
        model.load_state_dict(state)
        return model

    def save_pretrained(self, folder):
        """Write config.json and model.safetensors into a folder, for transformers if it has a model of this shape."""
        fields = {name: getattr(self.config, name) for name in self.config.__dataclass_fields__}
        hugging_face_decoder.save(folder, fields, self.state_dict())

    def _places(self, shape, kv_cache=None, document_ids=None):
        """The place of every id, in the shape of the ids; raises ValueError beyond the context."""
        length = shape[-1]
        if kv_cache is not None:
            positions = kv_cache.positions(length)
        else:
            check_context_length(length, self.context_length)
            positions = np.arange(length) if document_ids is None else document_positions(document_ids)
        return np.broadcast_to(positions, shape)

    def _positions_forward(self, x, positions):
        """x with what stands for its places, and the cache of their table."""
        if self.config.positions == "learned":
            rows, cache = self.embed_positions.forward(positions)
            return x + rows, cache
        if self.config.positions == "sinusoidal":
            table = sinusoidal_positions(self.context_length, self.config.d_model, dtype=x.dtype)
            return x + table[positions], None
        return x, None


class DecoderBlock(Module):
    """x = x + self_attn(input_layernorm(x)),  y = x + mlp(post_attention_layernorm(x))      (..., T, C) → (..., T, C)

    `attention`, `feed_forward` and `norm` are choices as in DecoderConfig. The children carry Llama's names.
    """

    def __init__(
        self, d_model, context_length, attention, feed_forward, norm, dropout=0.0, *, rng=None, dtype="float32"
    ):
        rng = as_generator(rng)
        sizes = {"context_length": context_length, "dropout": dropout}
        self.input_layernorm = make(NORMS, norm, d_model, dtype=dtype)
        self.self_attn = make(ATTENTIONS, attention, d_model, **sizes, rng=rng, dtype=dtype)
        self.drop_1 = Dropout(dropout)
        self.post_attention_layernorm = make(NORMS, norm, d_model, dtype=dtype)
        self.mlp = make(FEED_FORWARDS, feed_forward, d_model, rng=rng, dtype=dtype)
        self.drop_2 = Dropout(dropout)

    def __call__(self, x, kv_cache=None, document_ids=None):
        """The value alone. `past`: the one of this layer's attention."""
        x = x + self.self_attn(self.input_layernorm(x), kv_cache, document_ids)
        return x + self.mlp(self.post_attention_layernorm(x))

    def forward(self, x, rng=None, document_ids=None):
        """The value, and the cache of every step by the children's names."""
        normed, input_layernorm = self.input_layernorm.forward(x)
        gathered, self_attn = self.self_attn.forward(normed, rng, document_ids)
        added, drop_1 = self.drop_1.forward(gathered, rng=rng)
        x = x + added
        normed, post_attention_layernorm = self.post_attention_layernorm.forward(x)
        worked, mlp = self.mlp.forward(normed)
        added, drop_2 = self.drop_2.forward(worked, rng=rng)
        return x + added, Cache(
            input_layernorm=input_layernorm, self_attn=self_attn, drop_1=drop_1,
            post_attention_layernorm=post_attention_layernorm, mlp=mlp, drop_2=drop_2,
        )  # fmt: skip

    def backward(self, dy, cache, daux_loss=0.0):
        """The forward, read from its last line to its first; `daux_loss` is for a mixture of experts."""
        dworked = self.drop_2.backward(dy, cache.drop_2)
        extra = (daux_loss,) if hasattr(cache.mlp, "aux_loss") else ()
        dnormed = self.mlp.backward(dworked, cache.mlp, *extra)
        dx = dy + self.post_attention_layernorm.backward(dnormed, cache.post_attention_layernorm)
        dgathered = self.drop_1.backward(dx, cache.drop_1)
        dnormed = self.self_attn.backward(dgathered, cache.self_attn)
        return dx + self.input_layernorm.backward(dnormed, cache.input_layernorm)


def _sequence(ids):
    ids = np.asarray(ids)
    if ids.ndim == 0:
        raise ValueError("ids is a single number; it must be a sequence (T) or a batch of them (B, T)")
    return ids

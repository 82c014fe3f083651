"""Sequence to sequence: an encoder reads the source, a decoder generates the target.

    source ids  → embedding → encoder → states h_1 … h_S
                                          │ last state      └── [attention] ──┐
    target ids so far → embedding ────────┴→ decoder ─────────────────────────┴→ logits → next id

The encoder's last state is the decoder's initial state. The decoder generates one token at a time, from the tokens so
far. `seq2seq_decoders` has the decoders, without attention and with two kinds of it. The transformer keeps the
attention and removes the recurrence.

Cho et al. 2014; Sutskever, Vinyals, Le 2014, Sequence to Sequence Learning with Neural Networks; Bahdanau, Cho, Bengio
2015; Luong, Pham, Manning 2015.
"""

from typing import Any

import numpy as np

from npllm.before_transformers.seq2seq_decoders import ATTENTIONS, LAYERS, build_decoder
from npllm.core.cache import Cache
from npllm.core.checks import as_id_sequence, as_indices, check_positive, check_shape
from npllm.core.module import Module, as_generator
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear


class Seq2Seq(Module):
    """logits = head(decoder(embed(inputs), encoder(embed(source))))      (..., S), (..., T) → (..., T, V)

    In training the decoder gets the correct tokens so far (teacher forcing): the inputs are a begin token and then the
    targets, so that the logits at position t predict target t.

    attention   "none", "additive", "dot", "general" or "concat"
    cell        "rnn", "gru" or "lstm"
    mask        (..., S), boolean, False where the source is padding
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        embedding_dim: int,
        hidden_size: int,
        attention: str = "additive",
        cell: str = "gru",
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> None:
        check_positive(
            source_vocab_size=source_vocab_size, target_vocab_size=target_vocab_size,
            embedding_dim=embedding_dim, hidden_size=hidden_size,
        )  # fmt: skip
        if not isinstance(attention, str) or attention not in ATTENTIONS:
            raise ValueError(f"attention is {attention!r}; it must be one of {', '.join(ATTENTIONS)}")
        if not isinstance(cell, str) or cell not in LAYERS:
            raise ValueError(f"cell is {cell!r}; it must be one of {', '.join(LAYERS)}")
        self.source_embedding = Embedding(source_vocab_size, embedding_dim, dtype=dtype, init=False)
        self.encoder = LAYERS[cell](embedding_dim, hidden_size, dtype=dtype, init=False)
        self.target_embedding = Embedding(target_vocab_size, embedding_dim, dtype=dtype, init=False)
        self.decoder = build_decoder(attention, cell, embedding_dim, hidden_size, dtype)
        self.head = Linear(self.decoder.output_size, target_vocab_size, dtype=dtype, init=False)
        if init:
            self.init_weights(as_generator(rng))

    def forward(
        self, source: np.ndarray, inputs: np.ndarray, *, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, Cache]:
        """The logits; the cache holds those of the layers by name."""
        x, source_embedding = self.source_embedding.forward(as_id_sequence("source", source, min_length=1))
        (states, *last), encoder = self.encoder.forward(x, mask=mask)
        x, target_embedding = self.target_embedding.forward(as_id_sequence("inputs", inputs, min_length=1))
        (outputs, *_), decoder = self.decoder.forward(x, states, *last, mask=mask)
        logits, head = self.head.forward(outputs)
        return logits, Cache(
            source_embedding=source_embedding,
            encoder=encoder,
            target_embedding=target_embedding,
            decoder=decoder,
            head=head,
        )

    def backward(self, dlogits: np.ndarray, cache: Cache) -> None:
        """Add to the gradients of all parameters; ids have no gradient.

        The loss reaches the encoder by two paths: through its last state, the initial state of the decoder, and
        through all states, to which the decoder attends. Without attention only the first remains, and the gradient of
        the first source token passes through every step of encoder and decoder.
        """
        doutputs = self.head.backward(dlogits, cache.head)
        dx, dstates, *dlast = self.decoder.backward(doutputs, cache.decoder)
        self.target_embedding.backward(dx, cache.target_embedding)
        dx = self.encoder.backward((dstates, *dlast), cache.encoder)
        self.source_embedding.backward(dx, cache.source_embedding)

    def loss(
        self, source: np.ndarray, inputs: np.ndarray, targets: np.ndarray, *, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """loss = mean of −ln softmax(logits)[target]      (..., S), (..., T), (..., T) → ()

        Targets of −100, padding, are ignored.
        """
        return self.loss_forward(source, inputs, targets, mask=mask)[0]

    def loss_forward(
        self, source: np.ndarray, inputs: np.ndarray, targets: np.ndarray, *, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, Cache]:
        """The loss; the cache holds those of the model and of the cross-entropy."""
        logits, model = self.forward(source, inputs, mask=mask)
        loss, cross_entropy = cross_entropy_forward(logits, targets)
        return loss, Cache(model=model, cross_entropy=cross_entropy)

    def loss_backward(self, dloss: Any, cache: Cache) -> None:
        """Add dloss times the gradient of the loss to every parameter's `grad`."""
        self.backward(cross_entropy_backward(dloss, cache.cross_entropy), cache.model)

    def greedy_decode(
        self, source: np.ndarray, bos_id: int, eos_id: int, max_length: int, *, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Generate the most probable token at every step, until `eos_id`      (..., S) → (..., T)

        Generation starts from `bos_id`, which is not in the result, and stops when every sequence has an `eos_id` or
        after max_length tokens. Positions after the first `eos_id` hold `eos_id`, too.
        """
        check_positive(max_length=max_length)
        for name, token in (("bos_id", bos_id), ("eos_id", eos_id)):
            check_shape(name, as_indices(name, token, 0, self.head.weight.shape[0]), "()")
        x = self.source_embedding(as_id_sequence("source", source, min_length=1))
        states, *state = self.encoder(x, mask=mask)
        tokens = np.full(states.shape[:-2], bos_id)
        ended, generated = np.zeros(tokens.shape, bool), []
        while len(generated) < max_length and not ended.all():
            outputs, *state = self.decoder(self.target_embedding(tokens[..., None]), states, *state, mask=mask)
            logits = self.head(outputs)[..., 0, :]
            tokens = np.where(ended, eos_id, logits.argmax(axis=-1))
            ended = ended | (tokens == eos_id)
            generated.append(tokens)
        return np.stack(generated, axis=-1)

    def alignment(self, source: np.ndarray, inputs: np.ndarray, *, mask: np.ndarray | None = None) -> np.ndarray:
        """The attention weights of every decoder step over the source      (..., S), (..., T) → (..., T, S)

        Raises ValueError for a model without attention.
        """
        return self.decoder.alignment(self.forward(source, inputs, mask=mask)[1].decoder)

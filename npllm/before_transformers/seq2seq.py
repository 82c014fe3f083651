"""Sequence to sequence: one network reads, another writes; and how attention came between them.

    source ids → embedding → encoder → states h_1 … h_S          what was read
                                         │ last state
    ids so far → embedding → decoder ←───┴── [attention to all]  → logits → next id

An encoder reads the source; its last state is where the decoder begins, and the decoder writes token by token, each
time given what it wrote before. Three decoders show the way to the transformer:

    none                    all that is known of the source is that one state, however long the source was
    additive                before each step the state asks all the encoder's states, and the answer joins the input
    dot, general, concat    after each step, so that no step waits for an answer: all positions ask at once

The next thought, to let go of the recurrence and keep the attention, is the rest of this project.

Cho et al. 2014; Sutskever, Vinyals, Le 2014, Sequence to Sequence Learning with Neural Networks; Bahdanau, Cho, Bengio
2015; Luong, Pham, Manning 2015.
"""

import numpy as np

from npllm.before_transformers.additive import AdditiveAttention
from npllm.before_transformers.luong import LuongAttention
from npllm.before_transformers.recurrent import GRU, LSTM, RNN
from npllm.before_transformers.recurrent_cells import GRUCell, LSTMCell, RNNCell
from npllm.core.cache import Cache
from npllm.core.checks import as_indices, check_positive
from npllm.core.module import Module, as_generator
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear

RECURRENT = {"rnn": (RNN, RNNCell), "gru": (GRU, GRUCell), "lstm": (LSTM, LSTMCell)}


class Seq2Seq(Module):
    """logits = head(decoder(target[inputs], encoder(source[ids])))      (..., S), (..., T) → (..., T, V)

    While it learns, the decoder is given the right tokens so far (teacher forcing): inputs are the targets, one step
    later, behind a token that says "begin". The logits at position t speak of the t-th target. `attention` is "none",
    "additive", "dot", "general" or "concat"; `cell` is "rnn", "gru" or "lstm". `mask` (..., S) is False where a source
    is filled up.
    """

    def __init__(
        self, source_size, target_size, d_embedding, d_hidden, attention="additive", cell="gru", *, rng=None,
        dtype="float32",
    ):  # fmt: skip
        check_positive(source_size=source_size, target_size=target_size, d_embedding=d_embedding, d_hidden=d_hidden)
        for name, choice, choices in (("attention", attention, DECODERS), ("cell", cell, RECURRENT)):
            if choice not in choices:
                raise ValueError(f"{name} is {choice!r}; it must be one of {', '.join(choices)}")
        rng, layer = as_generator(rng), RECURRENT[cell][0]
        self.source_embedding = Embedding(source_size, d_embedding, rng=rng, dtype=dtype)
        self.encoder = layer(d_embedding, d_hidden, rng=rng, dtype=dtype)
        self.target_embedding = Embedding(target_size, d_embedding, rng=rng, dtype=dtype)
        self.decoder = DECODERS[attention](d_embedding, d_hidden, attention, cell, rng, dtype)
        self.head = Linear(self.decoder.d_features, target_size, rng=rng, dtype=dtype)

    def __call__(self, source, inputs, mask=None):
        """The logits alone."""
        return self.forward(source, inputs, mask)[0]

    def forward(self, source, inputs, mask=None):
        """The logits, and the caches of the layers by name."""
        read, source_embedding = self.source_embedding.forward(_sequence("source", source))
        (states, *last), encoder = self.encoder.forward(read, mask=mask)
        written, target_embedding = self.target_embedding.forward(_sequence("inputs", inputs))
        (features, *_), decoder = self.decoder.forward(written, states, *last, mask=mask)
        logits, head = self.head.forward(features)
        return logits, Cache(
            source_embedding=source_embedding,
            encoder=encoder,
            target_embedding=target_embedding,
            decoder=decoder,
            head=head,
        )

    def backward(self, dlogits, cache):
        """The forward, read from its last line to its first. Ids have no gradient, so nothing is returned.

        The encoder hears of the loss on two ways: through its last state, and through every state that attention
        looked at. Without attention the second is silent, and what the first word means must be learned through
        all steps of both networks.
        """
        dfeatures = self.head.backward(dlogits, cache.head)
        dwritten, dstates, *dlast = self.decoder.backward(dfeatures, cache.decoder)
        self.target_embedding.backward(dwritten, cache.target_embedding)
        self.source_embedding.backward(self.encoder.backward((dstates, *dlast), cache.encoder), cache.source_embedding)

    def loss(self, source, inputs, targets, mask=None):
        """loss = mean of −ln softmax(logits)[target]      (..., S), (..., T), (..., T) → ()

        Targets of −100, the filling, do not count.
        """
        return self.loss_forward(source, inputs, targets, mask)[0]

    def loss_forward(self, source, inputs, targets, mask=None):
        """The loss, and the caches of the model and of the cross-entropy."""
        logits, model = self.forward(source, inputs, mask)
        loss, cross_entropy = cross_entropy_forward(logits, targets)
        return loss, Cache(model=model, cross_entropy=cross_entropy)

    def loss_backward(self, dloss, cache):
        """Add dloss times the gradient of the loss to every parameter's `grad`."""
        self.backward(cross_entropy_backward(dloss, cache.cross_entropy), cache.model)

    def greedy(self, source, begin, end, max_length, mask=None):
        """Write the likeliest token, and again, until all sequences came to `end`      (..., S) → (..., T)

        T is at most max_length. Behind its first `end` a sequence is filled up with `end`.
        """
        check_positive(max_length=max_length)
        for name, token in (("begin", begin), ("end", end)):
            as_indices(name, token, 0, self.head.weight.shape[0])
        states, *state = self.encoder(self.source_embedding(_sequence("source", source)), mask=mask)
        tokens = np.full(states.shape[:-2], begin)
        ended, written = np.zeros(tokens.shape, bool), []
        while len(written) < max_length and not ended.all():
            features, *state = self.decoder(self.target_embedding(tokens[..., None]), states, *state, mask=mask)
            likeliest = self.head(features)[..., 0, :].argmax(axis=-1)
            tokens = np.where(ended, end, likeliest)
            ended = ended | (tokens == end)
            written.append(tokens)
        return np.stack(written, axis=-1)

    def alignment(self, source, inputs, mask=None):
        """How much the step after each input takes from each source position      (..., S), (..., T) → (..., T, S)

        Raises ValueError for a model without attention.
        """
        return self.decoder.alignment(self.forward(source, inputs, mask)[1].decoder)


class RecurrentDecoder(Module):
    """From embedded inputs, the encoder's states and a first state to features for the head and a last state.

    Its backward takes the gradient of the features alone (nothing is learned from the last state) and gives those of
    the inputs, of the encoder's states and of each part of the first state.
    """

    def __call__(self, x, states, *state, mask=None):
        """The value alone."""
        return self.forward(x, states, *state, mask=mask)[0]


class PlainDecoder(RecurrentDecoder):
    """features_t = h_t = recurrent(x_t, h_(t−1))

    It never looks at the encoder's states.
    """

    def __init__(self, d_embedding, d_hidden, attention, cell, rng, dtype):
        self.recurrent = RECURRENT[cell][0](d_embedding, d_hidden, rng=rng, dtype=dtype)
        self.d_features = d_hidden

    def forward(self, x, states, *state, mask=None):
        """All states and the last one, and the recurrent layer's cache."""
        (features, *last), recurrent = self.recurrent.forward(x, *state)
        return (features, *last), Cache(recurrent=recurrent, states=states, last=last)

    def backward(self, dfeatures, cache):
        """Through time to the first state; the encoder's states get nothing."""
        dlast = map(np.zeros_like, cache.last)
        dx, *dstate = self.recurrent.backward((dfeatures, *dlast), cache.recurrent)
        return dx, np.zeros_like(cache.states), *dstate

    def alignment(self, cache):
        """There is none."""
        raise ValueError("a model without attention has no alignment; build it with another `attention` than none")


class BahdanauDecoder(RecurrentDecoder):
    """features_t = [h_t | c_t],  h_t = cell([x_t | c_t], h_(t−1)),  c_t = attention(h_(t−1), states)

    The question is the state before the step, and the answer goes into the step: one must wait for the other.
    """

    def __init__(self, d_embedding, d_hidden, attention, cell, rng, dtype):
        self.attention = AdditiveAttention(d_hidden, d_hidden, d_hidden, rng=rng, dtype=dtype)
        self.cell = RECURRENT[cell][1](d_embedding + d_hidden, d_hidden, rng=rng, dtype=dtype)
        self.d_features = 2 * d_hidden

    def forward(self, x, states, *state, mask=None):
        """The features and the last state, and every step's caches."""
        keys, prepare = self.attention.prepare_forward(states)
        steps, features = [], []
        for t in range(x.shape[-2]):
            context, look = self.attention.look_forward(state[0][..., None, :], keys, states, mask)
            context = context[..., 0, :]
            new, cell = self.cell.forward(np.concatenate([x[..., t, :], context], axis=-1), *state)
            state = new if isinstance(new, tuple) else (new,)
            features.append(np.concatenate([state[0], context], axis=-1))
            steps.append(Cache(look=look, cell=cell))
        cache = Cache(prepare=prepare, steps=steps, x=x, states=states, last=state)
        return (np.stack(features, axis=-2), *state), cache

    def backward(self, dfeatures, cache):
        """Through time: every step sends back a gradient to the state before it, once as a state and once as a query.

        The states of the encoder are keys and values at every step, so their gradients add up; as keys they were
        prepared once, and the way back through that is gone once, with the sum.
        """
        x, d_hidden = cache.x, cache.states.shape[-1]
        dstate = tuple(np.zeros_like(part) for part in cache.last)
        dx, dstates, dkeys = np.empty_like(x), np.zeros_like(cache.states), 0.0
        for t in reversed(range(x.shape[-2])):
            dh, dcontext = np.split(dfeatures[..., t, :], 2, axis=-1)
            dstate = (dstate[0] + dh, *dstate[1:])
            dinput, *dstate = self.cell.backward(dstate if len(dstate) > 1 else dstate[0], cache.steps[t].cell)
            dx[..., t, :] = dinput[..., :-d_hidden]
            dcontext = dcontext + dinput[..., -d_hidden:]
            dquery, dkey, dvalue = self.attention.look_backward(dcontext[..., None, :], cache.steps[t].look)
            dstate = (dstate[0] + dquery[..., 0, :], *dstate[1:])
            dkeys, dstates = dkeys + dkey, dstates + dvalue
        return dx, dstates + self.attention.prepare_backward(dkeys, cache.prepare), *dstate

    def alignment(self, cache):
        """The weights of every step, (..., T, S)."""
        return np.concatenate([step.look.attention.weights for step in cache.steps], axis=-2)


class LuongDecoder(RecurrentDecoder):
    """features_t = tanh(W [c_t | h_t]),  c_t = attention(h_t, states),  h_t = recurrent(x_t, h_(t−1))

    The question is the state after the step, and the answer goes into the features alone. So the recurrence runs by
    itself, and all positions ask in one product: the shape that the transformer has.
    """

    def __init__(self, d_embedding, d_hidden, attention, cell, rng, dtype):
        self.recurrent = RECURRENT[cell][0](d_embedding, d_hidden, rng=rng, dtype=dtype)
        self.attention = LuongAttention(d_hidden, d_hidden, attention, rng=rng, dtype=dtype)
        self.combine = Linear(2 * d_hidden, d_hidden, bias=False, rng=rng, dtype=dtype)
        self.d_features = d_hidden

    def forward(self, x, states, *state, mask=None):
        """The features and the last state, and the caches of the three steps."""
        (h, *last), recurrent = self.recurrent.forward(x, *state)
        context, attention = self.attention.forward(h, states, states, mask)
        combined, combine = self.combine.forward(np.concatenate([context, h], axis=-1))
        features = np.tanh(combined)
        cache = Cache(recurrent=recurrent, attention=attention, combine=combine, features=features, last=last)
        return (features, *last), cache

    def backward(self, dfeatures, cache):
        """The forward, read from its last line to its first; keys and values are the same states."""
        dcombined = dfeatures * (1.0 - cache.features * cache.features)
        dcontext, dh = np.split(self.combine.backward(dcombined, cache.combine), 2, axis=-1)
        dquery, dkeys, dvalues = self.attention.backward(dcontext, cache.attention)
        dlast = map(np.zeros_like, cache.last)
        dx, *dstate = self.recurrent.backward((dh + dquery, *dlast), cache.recurrent)
        return dx, dkeys + dvalues, *dstate

    def alignment(self, cache):
        """The weights of all positions, (..., T, S)."""
        return cache.attention.attention.weights


DECODERS = {
    "none": PlainDecoder,
    "additive": BahdanauDecoder,
    "dot": LuongDecoder,
    "general": LuongDecoder,
    "concat": LuongDecoder,
}


def _sequence(name, ids):
    ids = np.asarray(ids)
    if ids.ndim == 0 or ids.shape[-1] == 0:
        raise ValueError(f"{name} has shape {ids.shape}; it must be a sequence of at least one id, or a batch of them")
    return ids

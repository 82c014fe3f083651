"""The decoders of a sequence-to-sequence model: without attention, with Bahdanau's, and with Luong's.

    none                    decoder state only: everything about the source is in the encoder's last state
    additive                attention before each step: the context is an input of the cell
    dot, general, concat    attention after each step: the context is combined with the cell's output

With attention before the step, step t + 1 must wait for the context that step t computes. With attention after it, the
recurrent layer runs first, and then all positions attend to the source in one product, as in the transformer.

Sutskever, Vinyals, Le 2014 (none); Bahdanau, Cho, Bengio 2015, section 3; Luong, Pham, Manning 2015, section 3.
"""

from typing import Any

import numpy as np

from npllm.before_transformers.additive import AdditiveAttention
from npllm.before_transformers.alignment import AlignmentAttention
from npllm.before_transformers.luong import ConcatAttention, DotAttention, GeneralAttention
from npllm.before_transformers.recurrent import GRU, LSTM, RNN, State
from npllm.before_transformers.recurrent_cells import GRUCell, LSTMCell, RNNCell
from npllm.core.cache import Cache
from npllm.core.module import Module
from npllm.layers.linear import Linear

LAYERS = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
CELLS = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}
ATTENTIONS = ("none", "additive", "dot", "general", "concat")


class Seq2SeqDecoder(Module):
    """The base class: maps embedded inputs x (..., T, I) and the encoder's states to outputs (..., T, O) for the head.

    `forward(x, states, *state, mask=None)` starts from `*state`, the encoder's last state, and returns the outputs and
    the last state. `backward(doutputs, cache)` returns dx, dstates and the gradient of the initial state. The last
    state is not used in training, so its gradient is 0.
    """

    output_size: int

    def alignment(self, cache: Cache) -> np.ndarray:
        """The attention weights (..., T, S) of a forward pass."""
        raise NotImplementedError


class PlainDecoder(Seq2SeqDecoder):
    """outputs_t = h_t,  h_t = cell(x_t, h_(t−1))

    It does not use the encoder's states, only the last one, as its initial state.
    """

    def __init__(self, embedding_dim: int, hidden_size: int, cell: str, dtype: Any) -> None:
        self.recurrent = LAYERS[cell](embedding_dim, hidden_size, dtype=dtype, init=False)
        self.output_size = hidden_size

    def forward(
        self, x: np.ndarray, states: np.ndarray, *state: np.ndarray, mask: np.ndarray | None = None
    ) -> tuple[State, Cache]:
        """All states of the decoder and the last one; the cache holds that of the recurrent layer."""
        (outputs, *last), recurrent = self.recurrent.forward(x, *state)
        return (outputs, *last), Cache(recurrent=recurrent, states=states, last=last)

    def backward(self, doutputs: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
        """dx, dstates = 0, and the gradient of the initial state."""
        dlast = map(np.zeros_like, cache.last)
        dx, *dstate = self.recurrent.backward((doutputs, *dlast), cache.recurrent)
        return dx, np.zeros_like(cache.states), *dstate

    def alignment(self, cache: Cache) -> np.ndarray:
        """Raises ValueError."""
        raise ValueError("the model has no alignment: attention is none")


class BahdanauDecoder(Seq2SeqDecoder):
    """outputs_t = [h_t | c_t],  h_t = cell([x_t | c_t], h_(t−1)),  c_t = attention(h_(t−1), states)

    The query is the state before the step, and the context c_t is an input of the step.
    """

    def __init__(self, embedding_dim: int, hidden_size: int, cell: str, dtype: Any) -> None:
        self.attention = AdditiveAttention(hidden_size, hidden_size, hidden_size, dtype=dtype, init=False)
        self.cell = CELLS[cell](embedding_dim + hidden_size, hidden_size, dtype=dtype, init=False)
        self.output_size = 2 * hidden_size

    def forward(
        self, x: np.ndarray, states: np.ndarray, *state: np.ndarray, mask: np.ndarray | None = None
    ) -> tuple[State, Cache]:
        """The outputs and the last state; the cache holds those of all steps. The keys are projected once."""
        keys, projection = self.attention.project_keys_forward(states)
        steps, outputs = [], []
        for t in range(x.shape[-2]):
            context, attend = self.attention.attend_forward(state[0][..., None, :], keys, states, mask=mask)
            context = context[..., 0, :]
            new_state, cell = self.cell.forward(np.concatenate([x[..., t, :], context], axis=-1), *state)
            state = new_state if isinstance(new_state, tuple) else (new_state,)
            outputs.append(np.concatenate([state[0], context], axis=-1))
            steps.append(Cache(attend=attend, cell=cell))
        cache = Cache(projection=projection, steps=steps, x=x, states=states, last=state)
        return (np.stack(outputs, axis=-2), *state), cache

    def backward(self, doutputs: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
        """dx, dstates, and the gradient of the initial state, by back-propagation through time.

        h_(t−1) is used twice in step t, as the state of the cell and as the query, so its gradient is the sum of two.
        The encoder's states are keys and values in every step, so their gradients are sums over all steps. The keys
        are projected once, so we back-propagate through the projection once, with the summed gradient.
        """
        x, hidden_size = cache.x, cache.states.shape[-1]
        dstate = tuple(np.zeros_like(array) for array in cache.last)
        dx, dstates = np.empty_like(x), np.zeros_like(cache.states)
        dkeys: Any = 0.0
        for t in reversed(range(x.shape[-2])):
            dh, dcontext = np.split(doutputs[..., t, :], 2, axis=-1)  # outputs_t = [h_t | c_t]
            dstate = (dstate[0] + dh, *dstate[1:])
            dinput, *dstate = self.cell.backward(dstate if len(dstate) > 1 else dstate[0], cache.steps[t].cell)
            dx[..., t, :] = dinput[..., :-hidden_size]  # input = [x_t | c_t]
            dcontext = dcontext + dinput[..., -hidden_size:]
            dquery, dkey, dvalue = self.attention.attend_backward(dcontext[..., None, :], cache.steps[t].attend)
            dstate = (dstate[0] + dquery[..., 0, :], *dstate[1:])
            dkeys, dstates = dkeys + dkey, dstates + dvalue
        return dx, dstates + self.attention.project_keys_backward(dkeys, cache.projection), *dstate

    def alignment(self, cache: Cache) -> np.ndarray:
        """The weights of all steps, (..., T, S)."""
        return np.concatenate([step.attend.attention.weights for step in cache.steps], axis=-2)


class LuongDecoder(Seq2SeqDecoder):
    """outputs_t = tanh(W [c_t | h_t]),  c_t = attention(h_t, states),  h_t = cell(x_t, h_(t−1))

    The query is the state after the step. The context is not an input of the recurrence, so all positions attend in
    one product.
    """

    def __init__(
        self, embedding_dim: int, hidden_size: int, attention: AlignmentAttention, cell: str, dtype: Any
    ) -> None:
        self.recurrent = LAYERS[cell](embedding_dim, hidden_size, dtype=dtype, init=False)
        self.attention = attention
        self.combine = Linear(2 * hidden_size, hidden_size, bias=False, dtype=dtype, init=False)
        self.output_size = hidden_size

    def forward(
        self, x: np.ndarray, states: np.ndarray, *state: np.ndarray, mask: np.ndarray | None = None
    ) -> tuple[State, Cache]:
        """The outputs and the last state; the cache holds those of recurrent layer, attention and linear map."""
        (h, *last), recurrent = self.recurrent.forward(x, *state)
        context, attention = self.attention.forward(h, states, states, mask=mask)
        combined, combine = self.combine.forward(np.concatenate([context, h], axis=-1))
        outputs = np.tanh(combined)
        cache = Cache(recurrent=recurrent, attention=attention, combine=combine, outputs=outputs, last=last)
        return (outputs, *last), cache

    def backward(self, doutputs: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
        """dx, dstates, and the gradient of the initial state. The encoder's states are keys and values: dk + dv."""
        dcombined = doutputs * (1.0 - cache.outputs * cache.outputs)
        dcontext, dh = np.split(self.combine.backward(dcombined, cache.combine), 2, axis=-1)
        dquery, dkeys, dvalues = self.attention.backward(dcontext, cache.attention)
        dlast = map(np.zeros_like, cache.last)
        dx, *dstate = self.recurrent.backward((dh + dquery, *dlast), cache.recurrent)
        return dx, dkeys + dvalues, *dstate

    def alignment(self, cache: Cache) -> np.ndarray:
        """The weights of all positions, (..., T, S)."""
        return cache.attention.attention.weights


def build_decoder(attention: str, cell: str, embedding_dim: int, hidden_size: int, dtype: Any) -> Seq2SeqDecoder:
    """The decoder for one of ATTENTIONS and a cell of CELLS, with weights that are not initialized yet."""
    if attention == "none":
        return PlainDecoder(embedding_dim, hidden_size, cell, dtype)
    if attention == "additive":
        return BahdanauDecoder(embedding_dim, hidden_size, cell, dtype)
    luong: AlignmentAttention
    if attention == "dot":
        luong = DotAttention()
    elif attention == "general":
        luong = GeneralAttention(hidden_size, hidden_size, dtype=dtype, init=False)
    else:
        luong = ConcatAttention(hidden_size, hidden_size, dtype=dtype, init=False)
    return LuongDecoder(embedding_dim, hidden_size, luong, cell, dtype)

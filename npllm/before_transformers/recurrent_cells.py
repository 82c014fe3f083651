"""Recurrent cells: one time step of an RNN, a GRU and an LSTM.

    x_t ──→ [cell] ──→ h_t        the same cell, with the same weights, at every position t
    h_(t−1) ──↑

A recurrent network reads a sequence one token at a time. Its hidden state h_t is a function of the input x_t and of
the previous state h_(t−1). Every cell starts with the same two linear maps,

    x_gates = x W_ihᵀ + b_ih        h_gates = h W_hhᵀ + b_hh

and the step function below combines them. The plain RNN passes the whole state through tanh at every step, so over many
steps its gradient vanishes. The GRU and the LSTM add gates: numbers between 0 and 1, computed from the input and the
state, that control how much of the old state is kept. A gate that stays open passes the state, and its gradient,
unchanged.

Each cell has its step function, the derivative, and the class with the weights, in this order. Parameter names and the
order of the gates are those of torch.nn, so weights can be moved in both directions. (One bias would be enough;
torch.nn has two, for compatibility with cuDNN.)

Elman 1990, Finding Structure in Time (RNN); Cho et al. 2014 (GRU); Hochreiter, Schmidhuber 1997, Long Short-Term
Memory (LSTM); Gers, Schmidhuber, Cummins 2000 (its forget gate).
"""

import math
from typing import Any

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_given, check_gradient, check_positive, drop_none
from npllm.core.module import Module, Parameter, as_generator
from npllm.layers.activations import sigmoid
from npllm.layers.linear import linear_backward, linear_forward


class RecurrentCell(Module):
    """What the three cells share: the weights and the two linear maps.

    `weight_ih` (G·H, I), `weight_hh` (G·H, H), `bias_ih` and `bias_hh` (G·H) are initialized uniformly in ±1/√H, as in
    torch.nn. G, the number of blocks of H rows, is 1 in the RNN, 3 in the GRU and 4 in the LSTM.
    """

    num_gates: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> None:
        check_positive(input_size=input_size, hidden_size=hidden_size)
        rows = self.num_gates * hidden_size
        self.hidden_size = hidden_size
        self.weight_ih = Parameter(np.zeros((rows, input_size), dtype))
        self.weight_hh = Parameter(np.zeros((rows, hidden_size), dtype))
        self.bias_ih = Parameter(np.zeros(rows, dtype))
        self.bias_hh = Parameter(np.zeros(rows, dtype))
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw all weights and biases uniformly in ±1/√H."""
        draw_recurrent_weights(self, self.hidden_size, rng)

    def _initial_state(self, name: str, state: np.ndarray | None, x: np.ndarray) -> np.ndarray:
        return initial_state(name, state, (*as_floats(x=x).shape[:-1], self.hidden_size), x)

    def _gates_forward(self, x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray, Cache]:
        """x_gates, h_gates, and the caches of the two linear maps."""
        x_gates, input_cache = linear_forward(x, self.weight_ih.data, self.bias_ih.data)
        h_gates, state_cache = linear_forward(h, self.weight_hh.data, self.bias_hh.data)
        return x_gates, h_gates, Cache(input=input_cache, state=state_cache)

    def _gates_backward(
        self, dx_gates: np.ndarray, dh_gates: np.ndarray, cache: Cache
    ) -> tuple[np.ndarray, np.ndarray]:
        """dx and dh; the gradients of the weights are added to the parameters."""
        dx, dweight_ih, dbias_ih = linear_backward(dx_gates, cache.input)
        dh, dweight_hh, dbias_hh = linear_backward(dh_gates, cache.state)
        self.add_grads(weight_ih=dweight_ih, weight_hh=dweight_hh, bias_ih=dbias_ih, bias_hh=dbias_hh)
        return dx, dh


# RNN


def rnn_step(x_gates: np.ndarray, h_gates: np.ndarray) -> np.ndarray:
    """h′ = tanh(x_gates + h_gates)      (..., H), (..., H) → (..., H)"""
    return rnn_step_forward(x_gates, h_gates)[0]


def rnn_step_forward(x_gates: np.ndarray, h_gates: np.ndarray) -> tuple[np.ndarray, Cache]:
    """The new state h′, which is also all that the cache holds."""
    check_given(x_gates=x_gates, h_gates=h_gates)
    x_gates, h_gates = as_floats(x_gates=x_gates, h_gates=h_gates)
    _check_equal_shapes(x_gates, h_gates)
    h = np.tanh(x_gates + h_gates)
    return h, Cache(h=h)


def rnn_step_backward(dh: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dx_gates = dh_gates = dh′ (1 − h′²)      (..., H) → (..., H), (..., H)

    tanh′ = 1 − tanh² ≤ 1, so each step multiplies the gradient by a factor of at most 1: over many steps it vanishes.
    """
    h = cache.h
    dx_gates = check_gradient(dh, h.shape, h.dtype) * (1.0 - h * h)
    return dx_gates, dx_gates.copy()


class RNNCell(RecurrentCell):
    """h′ = tanh(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh)      (..., I), (..., H) → (..., H)

    Without h the state is zeros.
    """

    num_gates = 1

    def forward(self, x: np.ndarray, h: np.ndarray | None = None) -> tuple[np.ndarray, Cache]:
        """The new state; the cache holds those of the linear maps and of `rnn_step`."""
        old_h = self._initial_state("h", h, x)
        x_gates, h_gates, gates = self._gates_forward(x, old_h)
        new_h, step = rnn_step_forward(x_gates, h_gates)
        return new_h, Cache(gates=gates, step=step, has_h=h is not None)

    def backward(self, dh: np.ndarray, cache: Cache) -> Any:
        """dx, and dh of the old state if it was given."""
        dx_gates, dh_gates = rnn_step_backward(dh, cache.step)
        dx, dold_h = self._gates_backward(dx_gates, dh_gates, cache.gates)
        return drop_none(dx, dold_h if cache.has_h else None)


# GRU


def gru_step(x_gates: np.ndarray, h_gates: np.ndarray, h: np.ndarray) -> np.ndarray:
    """h′ = (1 − z) n + z h      (..., 3H), (..., 3H), (..., H) → (..., H)

    x_gates and h_gates hold three blocks each, [r | z | n]:

    r = σ(x_r + h_r)           reset gate: how much of the state the candidate uses
    z = σ(x_z + h_z)           update gate: how much of the state is kept
    n = tanh(x_n + r h_n)      candidate for the new state
    """
    return gru_step_forward(x_gates, h_gates, h)[0]


def gru_step_forward(x_gates: np.ndarray, h_gates: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, Cache]:
    """The new state; the cache holds the gates r and z, the candidate n, the block h_n and the old state h."""
    check_given(x_gates=x_gates, h_gates=h_gates, h=h)
    x_gates, h_gates, h = as_floats(x_gates=x_gates, h_gates=h_gates, h=h)
    _check_blocks(3, x_gates, h_gates, "h", h)
    x_r, x_z, x_n = np.split(x_gates, 3, axis=-1)
    h_r, h_z, h_n = np.split(h_gates, 3, axis=-1)
    r = sigmoid(x_r + h_r)
    z = sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    return (1.0 - z) * n + z * h, Cache(r=r, z=z, n=n, h_n=h_n, h=h)


def gru_step_backward(dh: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dold_h = dh′ z, and dx_gates, dh_gates      (..., H) → (..., 3H), (..., 3H), (..., H)

    h′ = (1 − z) n + z h        dz = dh′ (h − n),  dn = dh′ (1 − z),  dh = dh′ z
    n = tanh(x_n + r h_n)       dx_n = dn (1 − n²),  dh_n = dx_n r,  dr = dx_n h_n
    z = σ(x_z + h_z)            dx_z = dh_z = dz z (1 − z);  r likewise
    """
    r, z, n, h = cache.r, cache.z, cache.n, cache.h
    dh = check_gradient(dh, h.shape, h.dtype)
    dx_n = dh * (1.0 - z) * (1.0 - n * n)
    dx_z = dh * (h - n) * z * (1.0 - z)
    dx_r = dx_n * cache.h_n * r * (1.0 - r)
    dx_gates = np.concatenate([dx_r, dx_z, dx_n], axis=-1)
    dh_gates = np.concatenate([dx_r, dx_z, dx_n * r], axis=-1)
    return dx_gates, dh_gates, dh * z


class GRUCell(RecurrentCell):
    """h′ = gru_step(x W_ihᵀ + b_ih, h W_hhᵀ + b_hh, h)      (..., I), (..., H) → (..., H)

    The rows of the weights are the blocks [r | z | n]. Without h the state is zeros.
    """

    num_gates = 3

    def forward(self, x: np.ndarray, h: np.ndarray | None = None) -> tuple[np.ndarray, Cache]:
        """The new state; the cache holds those of the linear maps and of `gru_step`."""
        old_h = self._initial_state("h", h, x)
        x_gates, h_gates, gates = self._gates_forward(x, old_h)
        new_h, step = gru_step_forward(x_gates, h_gates, old_h)
        return new_h, Cache(gates=gates, step=step, has_h=h is not None)

    def backward(self, dh: np.ndarray, cache: Cache) -> Any:
        """dx, and dh of the old state if it was given.

        The old state is used twice, in h_gates and in z h, so its gradient is the sum of two terms.
        """
        dx_gates, dh_gates, dkept_h = gru_step_backward(dh, cache.step)
        dx, dold_h = self._gates_backward(dx_gates, dh_gates, cache.gates)
        return drop_none(dx, dold_h + dkept_h if cache.has_h else None)


# LSTM


def lstm_step(x_gates: np.ndarray, h_gates: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """h′ = o tanh(c′),  c′ = f c + i g      (..., 4H), (..., 4H), (..., H) → (..., H), (..., H)

    x_gates + h_gates holds four blocks, [i | f | g | o], before their activations:

    i = σ(…)         input gate: how much of the candidate is added to the cell state
    f = σ(…)         forget gate: how much of the cell state is kept
    g = tanh(…)      candidate for the cell state
    o = σ(…)         output gate: how much of the cell state is output

    The LSTM has two states: the cell state c, which is changed by sums only, and the hidden state h, its output.
    """
    return lstm_step_forward(x_gates, h_gates, c)[0]


def lstm_step_forward(
    x_gates: np.ndarray, h_gates: np.ndarray, c: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], Cache]:
    """(h′, c′); the cache holds the gates i, f, o, the candidate g, the old cell state c and tanh_c = tanh(c′)."""
    check_given(x_gates=x_gates, h_gates=h_gates, c=c)
    x_gates, h_gates, c = as_floats(x_gates=x_gates, h_gates=h_gates, c=c)
    _check_blocks(4, x_gates, h_gates, "c", c)
    i, f, g, o = np.split(x_gates + h_gates, 4, axis=-1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    new_c = f * c + i * g
    tanh_c = np.tanh(new_c)
    return (o * tanh_c, new_c), Cache(i=i, f=f, g=g, o=o, c=c, tanh_c=tanh_c)


def lstm_step_backward(dstate: tuple[np.ndarray, ...], cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dold_c = f (dc′ + dh′ o (1 − tanh² c′))      (..., H), (..., H) → (..., 4H), (..., 4H), (..., H)

    h′ = o tanh(c′)      do = dh′ tanh(c′);  c′ also gets dh′ o (1 − tanh² c′), in addition to dc′ from the next step
    c′ = f c + i g       with dc′ the sum of both:  df = dc′ c,  di = dc′ g,  dg = dc′ i,  dc = dc′ f
    i = σ(p)             dp = di i (1 − i), likewise f and o;  g = tanh(p): dp = dg (1 − g²)

    Returns dx_gates, dh_gates (equal: the two were added) and dold_c. From one cell state to the previous one the only
    factor is f: while the forget gate is open, the gradient does not vanish.
    """
    i, f, g, o, tanh_c = cache.i, cache.f, cache.g, cache.o, cache.tanh_c
    dh, dc = (check_gradient(gradient, f.shape, f.dtype) for gradient in dstate)
    dc = dc + dh * o * (1.0 - tanh_c * tanh_c)
    dp_i = dc * g * i * (1.0 - i)
    dp_f = dc * cache.c * f * (1.0 - f)
    dp_g = dc * i * (1.0 - g * g)
    dp_o = dh * tanh_c * o * (1.0 - o)
    dx_gates = np.concatenate([dp_i, dp_f, dp_g, dp_o], axis=-1)
    return dx_gates, dx_gates.copy(), dc * f


class LSTMCell(RecurrentCell):
    """h′, c′ = lstm_step(x W_ihᵀ + b_ih, h W_hhᵀ + b_hh, c)      (..., I), (..., H), (..., H) → (..., H), (..., H)

    The rows of the weights are the blocks [i | f | g | o]. Without h or c that state is zeros.
    """

    num_gates = 4

    def forward(
        self, x: np.ndarray, h: np.ndarray | None = None, c: np.ndarray | None = None
    ) -> tuple[tuple[np.ndarray, np.ndarray], Cache]:
        """(h′, c′); the cache holds those of the linear maps and of `lstm_step`."""
        old_h, old_c = self._initial_state("h", h, x), self._initial_state("c", c, x)
        x_gates, h_gates, gates = self._gates_forward(x, old_h)
        new_state, step = lstm_step_forward(x_gates, h_gates, old_c)
        return new_state, Cache(gates=gates, step=step, has_h=h is not None, has_c=c is not None)

    def backward(self, dstate: tuple[np.ndarray, np.ndarray], cache: Cache) -> Any:
        """dx, and dh and dc of the old states that were given."""
        dx_gates, dh_gates, dold_c = lstm_step_backward(dstate, cache.step)
        dx, dold_h = self._gates_backward(dx_gates, dh_gates, cache.gates)
        return drop_none(dx, dold_h if cache.has_h else None, dold_c if cache.has_c else None)


def draw_recurrent_weights(module: Module, hidden_size: int, rng: np.random.Generator) -> None:
    """Draw all parameters of a recurrent cell or layer uniformly in ±1/√H."""
    bound = 1.0 / math.sqrt(hidden_size)
    for parameter in module.params.values():
        parameter.data[...] = rng.uniform(-bound, bound, parameter.shape)


def initial_state(name: str, state: np.ndarray | None, shape: tuple[int, ...], x: np.ndarray) -> np.ndarray:
    """The state before the first step: `state`, or zeros for None. It must have this shape and the dtype of x."""
    x, state = as_floats(**{"x": x, name: state})
    if state is None:
        return np.zeros(shape, x.dtype)
    if state.shape != shape:
        raise ValueError(f"{name} has shape {state.shape}; it must be {shape}, one state for each sequence")
    return state


def _check_equal_shapes(x_gates: np.ndarray, h_gates: np.ndarray) -> None:
    if x_gates.shape != h_gates.shape:
        raise ValueError(f"h_gates has shape {h_gates.shape}; it must be that of x_gates, {x_gates.shape}")


def _check_blocks(blocks: int, x_gates: np.ndarray, h_gates: np.ndarray, name: str, state: np.ndarray) -> None:
    """Raise ValueError unless x_gates and h_gates are (..., blocks · H) for a state (..., H)."""
    if state.ndim == 0:
        raise ValueError(f"{name} is a single number; it must be an array (..., H)")
    expected = (*state.shape[:-1], blocks * state.shape[-1])
    for key, gates in (("x_gates", x_gates), ("h_gates", h_gates)):
        if gates.shape != expected:
            raise ValueError(
                f"{key} has shape {gates.shape}; it must be {expected}: {blocks} blocks of the shape of {name}"
            )

"""Recurrent layers: a cell applied to every position of a sequence, and back-propagation through time.

    x_1 → h_1 → h_2 → … → h_T      each h_t from x_t and h_(t−1), with the same weights at every step

Before attention, sequence models were recurrent. One vector, the state, holds all information about the earlier
positions, and the gradient of the last position reaches the first one through every step between them.

A layer has the step function of its cell, the loop over time, and the four weights under the names of torch.nn:
`weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0` (`_l0`: the first of several stacked layers). A state is
positional, in calls and results: `h`, and for the LSTM `h, c`.

Back-propagation through time: Werbos 1990. Vanishing and exploding gradients: Bengio, Simard, Frasconi 1994.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npllm.before_transformers.recurrent_cells import (
    draw_recurrent_weights,
    gru_step_backward,
    gru_step_forward,
    initial_state,
    lstm_step_backward,
    lstm_step_forward,
    rnn_step_backward,
    rnn_step_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_array, as_floats, as_sequence, check_gradient, check_positive, drop_none
from npllm.core.module import Module, Parameter, as_generator
from npllm.layers.linear import linear, linear_backward, linear_forward

State = tuple[np.ndarray, ...]


def unroll_forward(
    step_forward: Callable, x_gates: np.ndarray, state: State, mask: np.ndarray | None = None
) -> tuple[State, Cache]:
    """state_t = step(x_gates_t, state_(t−1)) for t = 1 … T; returns (all h_t, then the last state) and the cache.

    x_gates is (..., T, G·H), each array of a state (..., H). Where the mask (..., T) is False, the position is padding
    and the state stays as it is. The cache holds `h` (..., T + 1, H), from the initial state on, the caches of the
    steps, and the mask.
    """
    num_steps, hidden_size = x_gates.shape[-2], state[0].shape[-1]
    h = np.empty((*state[0].shape[:-1], num_steps + 1, hidden_size), x_gates.dtype)
    h[..., 0, :] = state[0]
    steps = []
    for t in range(num_steps):
        new_state, step = step_forward(x_gates[..., t, :], *state)
        state = new_state if mask is None else _where(mask[..., t], new_state, state)
        h[..., t + 1, :] = state[0]
        steps.append(step)
    cache = Cache(h=h, steps=steps, mask=mask, gates_shape=x_gates.shape)
    return (h[..., 1:, :], *(array.copy() for array in state)), cache


def unroll_backward(
    step_backward: Callable, dh: np.ndarray, dlast: Sequence[np.ndarray], cache: Cache
) -> tuple[np.ndarray, np.ndarray, State]:
    """Back-propagation through time: dx_gates, dh_gates (..., T, G·H), and the gradient of the initial state.

    h_t is used twice: it is an output of the layer, and step t + 1 reads it. So its gradient is the sum of
    dh_t, which comes from the loss, and of what step t + 1 returns. Going from t = T to 1:

    dstate_t     = (dh_t, 0) + dstate_t of step t + 1
    dstate_(t−1) = step_backward(dstate_t)      at padding: dstate_t, because the state was copied
    """
    h, mask = cache.h, cache.mask
    dh = check_gradient(dh, h[..., 1:, :].shape, h.dtype)
    dstate = tuple(check_gradient(array, h[..., 0, :].shape, h.dtype) for array in dlast)
    dx_gates, dh_gates = np.empty(cache.gates_shape, h.dtype), np.empty(cache.gates_shape, h.dtype)
    for t in reversed(range(len(cache.steps))):
        dstate = (dstate[0] + dh[..., t, :], *dstate[1:])
        dnew_state = dstate if mask is None else _zero_unless(mask[..., t], dstate)
        dx_gates[..., t, :], dh_gates[..., t, :], dprevious = step_backward(dnew_state, cache.steps[t])
        if mask is not None:  # state = where(mask, new_state, state)
            dcopied = _zero_unless(~mask[..., t], dstate)
            dprevious = tuple(array + copied for array, copied in zip(dprevious, dcopied))
        dstate = dprevious
    return dx_gates, dh_gates, dstate


class RecurrentLayer(Module):
    """The parts that are equal in the three layers: the weights, and the products of all steps together.

    A layer defines `num_gates` and `state_names`, and one step in `step_forward` and `step_backward`. The weights are
    initialized as in the cells.
    """

    num_gates: int
    state_names: tuple[str, ...]

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
        self.weight_ih_l0 = Parameter(np.zeros((rows, input_size), dtype))
        self.weight_hh_l0 = Parameter(np.zeros((rows, hidden_size), dtype))
        self.bias_ih_l0 = Parameter(np.zeros(rows, dtype))
        self.bias_hh_l0 = Parameter(np.zeros(rows, dtype))
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw all weights and biases uniformly in ±1/√H."""
        draw_recurrent_weights(self, self.hidden_size, rng)

    def h_gates(self, h: np.ndarray) -> np.ndarray:
        """h W_hhᵀ + b_hh."""
        return linear(h, self.weight_hh_l0.data, self.bias_hh_l0.data)

    def step_forward(self, x_gates: np.ndarray, *state: np.ndarray) -> tuple[State, Cache]:
        """The state after one step, and the cache of the step."""
        raise NotImplementedError

    def step_backward(self, dstate: State, cache: Cache) -> tuple[np.ndarray, np.ndarray, State]:
        """dx_gates, dh_gates, and the gradient of the state before the step."""
        raise NotImplementedError

    def forward(self, x: np.ndarray, *state: np.ndarray | None, mask: np.ndarray | None = None) -> tuple[State, Cache]:
        """(all h_t, then the last state); the cache holds that of the input's linear map and that of the loop.

        x_gates of all steps is one product; h_gates needs the previous state, so it is one product for each step.
        """
        x = as_sequence(as_floats(x=x))
        mask = _check_mask(mask, x.shape[:-1])
        initial = self._initial_state(x, state)
        x_gates, input_cache = linear_forward(x, self.weight_ih_l0.data, self.bias_ih_l0.data)
        y, loop = unroll_forward(self.step_forward, x_gates, initial, mask)
        given = [array is not None for array in (*state, *[None] * (len(initial) - len(state)))]
        return y, Cache(input=input_cache, loop=loop, given=given)

    def backward(self, dy: State, cache: Cache) -> Any:
        """dx, and the gradients of the initial states that were given; dy has a gradient for each output.

        The same weights served every step, so their gradients are sums over all steps: one product for each weight.
        """
        dh, *dlast = dy
        dx_gates, dh_gates, dinitial = unroll_backward(self.step_backward, dh, dlast, cache.loop)
        dx, dweight_ih, dbias_ih = linear_backward(dx_gates, cache.input)
        dh_rows = dh_gates.reshape(-1, dh_gates.shape[-1])  # h_gates_t = h_(t−1) W_hhᵀ + b_hh, a row for each t
        previous_h = cache.loop.h[..., :-1, :].reshape(-1, self.hidden_size)
        self.add_grads(
            weight_ih_l0=dweight_ih, bias_ih_l0=dbias_ih,
            weight_hh_l0=dh_rows.T @ previous_h, bias_hh_l0=dh_rows.sum(axis=0),
        )  # fmt: skip
        return drop_none(dx, *(array if given else None for array, given in zip(dinitial, cache.given)))

    def _initial_state(self, x: np.ndarray, state: tuple[np.ndarray | None, ...]) -> State:
        names = self.state_names
        if len(state) > len(names):
            raise TypeError(f"{type(self).__name__} got {len(state)} states; it has {len(names)}: {', '.join(names)}")
        state = (*state, *[None] * (len(names) - len(state)))
        shape = (*x.shape[:-2], self.hidden_size)
        return tuple(initial_state(name, array, shape, x) for name, array in zip(names, state))


class RNN(RecurrentLayer):
    """h_t = tanh(x_t W_ihᵀ + b_ih + h_(t−1) W_hhᵀ + b_hh)      (..., T, I), (..., H) → (..., T, H), (..., H)

    Returns all states, then the last one. Without h the initial state is zeros. `mask` (..., T), boolean, is False at
    padding: there the state stays as it is.
    """

    num_gates, state_names = 1, ("h",)

    def step_forward(self, x_gates: np.ndarray, h: np.ndarray) -> tuple[State, Cache]:
        """RNNCell: h_t = rnn_step(x_gates, h W_hhᵀ + b_hh)."""
        new_h, cache = rnn_step_forward(x_gates, self.h_gates(h))
        return (new_h,), cache

    def step_backward(self, dstate: State, cache: Cache) -> tuple[np.ndarray, np.ndarray, State]:
        """h is used in h_gates only."""
        dx_gates, dh_gates = rnn_step_backward(dstate[0], cache)
        return dx_gates, dh_gates, (dh_gates @ self.weight_hh_l0.data,)


class GRU(RecurrentLayer):
    """h_t = GRUCell(x_t, h_(t−1))      (..., T, I), (..., H) → (..., T, H), (..., H)

    Returns all states, then the last one; h and `mask` as in RNN.
    """

    num_gates, state_names = 3, ("h",)

    def step_forward(self, x_gates: np.ndarray, h: np.ndarray) -> tuple[State, Cache]:
        """GRUCell: h_t = gru_step(x_gates, h W_hhᵀ + b_hh, h)."""
        new_h, cache = gru_step_forward(x_gates, self.h_gates(h), h)
        return (new_h,), cache

    def step_backward(self, dstate: State, cache: Cache) -> tuple[np.ndarray, np.ndarray, State]:
        """h is used in h_gates and in z h."""
        dx_gates, dh_gates, dkept_h = gru_step_backward(dstate[0], cache)
        return dx_gates, dh_gates, (dh_gates @ self.weight_hh_l0.data + dkept_h,)


class LSTM(RecurrentLayer):
    """h_t, c_t = LSTMCell(x_t, h_(t−1), c_(t−1))      (..., T, I), (..., H), (..., H) → (..., T, H), (..., H), (..., H)

    Returns all states h, then the last h and the last c; h, c and `mask` as in RNN.
    """

    num_gates, state_names = 4, ("h", "c")

    def step_forward(self, x_gates: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[State, Cache]:
        """LSTMCell: h_t, c_t = lstm_step(x_gates, h W_hhᵀ + b_hh, c)."""
        return lstm_step_forward(x_gates, self.h_gates(h), c)

    def step_backward(self, dstate: State, cache: Cache) -> tuple[np.ndarray, np.ndarray, State]:
        """h is used in h_gates, c in f c."""
        dx_gates, dh_gates, dc = lstm_step_backward(dstate, cache)
        return dx_gates, dh_gates, (dh_gates @ self.weight_hh_l0.data, dc)


def _check_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the mask as a boolean array of this shape, (..., T)."""
    if mask is None:
        return None
    mask = as_array("mask", mask)
    if mask.dtype != bool:
        raise TypeError(f"mask has dtype {mask.dtype}; it must be boolean, False at padding")
    if mask.shape != shape:
        raise ValueError(f"mask has shape {mask.shape}; it must be {shape}, one entry for each position of x")
    return mask


def _where(mask: np.ndarray, state: State, other: State) -> State:
    """`state` where the mask (...) is True, `other` where it is False, for every array (..., H) of a state."""
    return tuple(np.where(mask[..., None], a, b) for a, b in zip(state, other))


def _zero_unless(mask: np.ndarray, state: State) -> State:
    """Every array (..., H) of a state, with 0 where the mask (...) is False."""
    return tuple(np.where(mask[..., None], array, 0.0) for array in state)

"""Recurrent layers: a text read token by token, with a state that carries what was read; and the way back through time.

    x_1 → h_1 → h_2 → … → h_T      each h_t from x_t and h_(t−1), with the same weights at every step

This is how sequences were read before attention. All that is known of the past must fit into one vector, and what the
last step learns about the first one must travel back through every step in between.

A cell makes one step; a layer makes all of them. Both carry the names of torch.nn, so weights move there and back:
`weight_ih` (input to state), `weight_hh` (state to state) and a bias for each (one would do; torch has two, from
cuDNN), with `_l0` behind the names of a layer, for there it may be the first of several.

Back-propagation through time: Werbos 1990; how its gradients vanish or explode: Bengio, Simard, Frasconi 1994.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npllm.before_transformers.recurrent_cells import (
    gru_step_backward,
    gru_step_forward,
    lstm_step_backward,
    lstm_step_forward,
    rnn_step_backward,
    rnn_step_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, check_positive, check_size, drop_none
from npllm.core.module import Module, Parameter, as_generator
from npllm.layers.linear import linear, linear_backward, linear_forward


@dataclass(frozen=True)
class Gates:
    """The mathematics of one kind of step, from `functional.recurrence`."""

    blocks: int  # how many vectors of H numbers the two linear maps prepare
    names: tuple  # of the parts of the state: h, and for the LSTM its cell c
    reads: slice  # the parts of the old state that the gates read themselves, besides u
    forward: Callable
    backward: Callable

    def step_forward(self, a, u, state):
        """The state after one step as a tuple, and the cache of the gates."""
        new, cache = self.forward(a, u, *state[self.reads])
        return _several(new), cache

    def step_backward(self, dstate, cache, weight_hh):
        """da, du, and the gradient of the state before the step.

        The old state is used twice: u = h W_hhᵀ + b_hh passes du W_hh back to h, and the gates may read a part of it.
        """
        da, du, *dread = self.backward(_single(dstate), cache)
        dold = [du @ weight_hh, *(np.zeros_like(part) for part in dstate[1:])]
        for index, gradient in zip(range(len(dold))[self.reads], dread):
            dold[index] = dold[index] + gradient
        return da, du, tuple(dold)


PLAIN = Gates(1, ("h",), slice(0, 0), rnn_step_forward, rnn_step_backward)
GATED = Gates(3, ("h",), slice(0, 1), gru_step_forward, gru_step_backward)
WITH_CELL = Gates(4, ("h", "c"), slice(1, 2), lstm_step_forward, lstm_step_backward)


class Recurrent(Module):
    """What cells and layers share: the four weights and the state before the first step. A kind names its `gates`."""

    suffix = ""

    def __init__(self, input_size, hidden_size, *, rng=None, dtype="float32"):
        check_positive(input_size=input_size, hidden_size=hidden_size)
        rng, bound, rows = as_generator(rng), 1.0 / math.sqrt(hidden_size), self.gates.blocks * hidden_size
        self.hidden_size = hidden_size
        shapes = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        for name, shape in shapes.items():
            setattr(self, name + self.suffix, Parameter(rng.uniform(-bound, bound, shape).astype(dtype)))

    def __call__(self, x, *state, **options):
        """The value alone."""
        return self.forward(x, *state, **options)[0]

    def weights(self):
        """The arrays weight_ih, weight_hh, bias_ih, bias_hh."""
        return [parameter.data for parameter in self.params.values()]

    def begin(self, state, batch, dtype):
        """The state before the first step, zeros for what was not passed; and which parts were."""
        names = self.gates.names
        if len(state) > len(names):
            raise TypeError(f"the state has {len(state)} parts; that of {type(self).__name__} has {len(names)}")
        state = (*state, *[None] * (len(names) - len(state)))
        expected = (*batch, self.hidden_size)
        for name, part in zip(names, state):
            if part is not None and np.shape(part) != expected:
                raise ValueError(f"{name} has shape {np.shape(part)}; it must be {expected}, a state for each sequence")
        begun = tuple(np.zeros(expected, dtype) if part is None else np.asarray(part) for part in state)
        return begun, [part is not None for part in state]

    def finish(self, da, du, dstate, cache):
        """The gradients of the four weights to the parameters; returns dx and those of the state that was passed."""
        dx, dweight_ih, dbias_ih = linear_backward(da, cache.input)
        _, dweight_hh, dbias_hh = linear_backward(du, cache.state)
        for parameter, gradient in zip(self.params.values(), (dweight_ih, dweight_hh, dbias_ih, dbias_hh)):
            parameter.add_grad(gradient)
        return drop_none(dx, *(gradient for gradient, passed in zip(dstate, cache.passed) if passed))


class Cell(Recurrent):
    """One step."""

    def forward(self, x, *state):
        """The state after the step, and the caches of both linear maps and of the gates."""
        weight_ih, weight_hh, bias_ih, bias_hh = self.weights()
        a, from_input = linear_forward(x, weight_ih, bias_ih)
        state, passed = self.begin(state, a.shape[:-1], a.dtype)
        u, from_state = linear_forward(state[0], weight_hh, bias_hh)
        new, gates = self.gates.step_forward(a, u, state)
        return _single(new), Cache(input=from_input, state=from_state, gates=gates, passed=passed)

    def backward(self, dy, cache):
        """dx, and the gradient of each part of the state that was passed."""
        da, du, dstate = self.gates.step_backward(_several(dy), cache.gates, cache.state.weight)
        return self.finish(da, du, dstate, cache)


class Unrolled(Recurrent):
    """All steps of a sequence, one after the other."""

    suffix = "_l0"

    def forward(self, x, *state, mask=None):
        """All states, then each part of the last one; and the caches of the linear maps and of every step's gates.

        What comes from the input is one product for all steps; what comes from the state must wait for it.
        """
        weight_ih, weight_hh, bias_ih, bias_hh = self.weights()
        x = as_floats(x=x)
        if x.ndim < 2:
            raise ValueError(f"x has shape {x.shape}; it must be a sequence (T, I), or a batch of them (B, T, I)")
        mask = _check_mask(mask, x.shape[:-1])
        a, from_input = linear_forward(x, weight_ih, bias_ih)
        state, passed = self.begin(state, x.shape[:-2], x.dtype)
        before, states, steps = [], [], []
        for t in range(x.shape[-2]):
            before.append(state[0])
            new, gates = self.gates.step_forward(a[..., t, :], linear(state[0], weight_hh, bias_hh), state)
            state = new if mask is None else _choose(mask[..., t], new, state)
            states.append(state[0])
            steps.append(gates)
        # u = linear(h_(t-1)) once more, as one product of all steps: that is how its gradient is taken
        from_state = Cache(x=_stack(before, state[0]), weight=weight_hh, has_bias=True)
        cache = Cache(input=from_input, state=from_state, steps=steps, mask=mask, passed=passed)
        return (_stack(states, state[0]), *(part.copy() for part in state)), cache

    def backward(self, dy, cache):
        """Through time, from the last step to the first.

        A state is used twice: it is shown at its own step, and the next step starts from it. So dh_t is what came
        from outside plus what step t + 1 sent back. A padded step was no step, and its gradient passes unchanged. The
        weights served every step, so their gradients sum over all of them: one product over the steps together.
        """
        before, weight_hh = cache.state.x, cache.state.weight
        dstates = check_gradient(dy[0], before.shape, before.dtype)
        last = (*before.shape[:-2], self.hidden_size)
        dstate = tuple(check_gradient(part, last, before.dtype) for part in dy[1:])
        da, du = (np.empty((*before.shape[:-1], len(weight_hh)), before.dtype) for _ in range(2))
        for t in reversed(range(before.shape[-2])):
            dstate = (dstate[0] + dstates[..., t, :], *dstate[1:])
            dnew, dold = dstate, None
            if cache.mask is not None:  # state = where(mask, new, state)
                nothing = tuple(np.zeros_like(part) for part in dstate)
                dnew = _choose(cache.mask[..., t], dstate, nothing)
                dold = _choose(cache.mask[..., t], nothing, dstate)
            da[..., t, :], du[..., t, :], dstate = self.gates.step_backward(dnew, cache.steps[t], weight_hh)
            if dold is not None:
                dstate = tuple(through + around for through, around in zip(dstate, dold))
        return self.finish(da, du, dstate, cache)


class RNNCell(Cell):
    """h′ = tanh(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh)      (..., I), (..., H) → (..., H)

    Without h the step starts from zeros. Weights start uniform in ±1/√H, as in torch.nn.RNNCell.
    """

    gates = PLAIN


class GRUCell(Cell):
    """h′ = gru_step(x W_ihᵀ + b_ih, h W_hhᵀ + b_hh, h)      (..., I), (..., H) → (..., H)

    The rows of the weights are those of the reset gate, the update gate and the proposal, as in torch.nn.GRUCell.
    """

    gates = GATED


class LSTMCell(Cell):
    """h′, c′ = lstm_step(x W_ihᵀ + b_ih, h W_hhᵀ + b_hh, c)      (..., I), (..., H), (..., H) → (..., H), (..., H)

    The rows of the weights are those of the input gate, the forget gate, the proposal and the output gate, as in
    torch.nn.LSTMCell; h and c are two arguments and two results.
    """

    gates = WITH_CELL


class RNN(Unrolled):
    """h_t = tanh(x_t W_ihᵀ + b_ih + h_(t−1) W_hhᵀ + b_hh)      (..., T, I), (..., H) → (..., T, H), (..., H)

    Gives all states, and the last one once more. Without h the first step starts from zeros: nothing is kept from one
    call to the next. `mask` (..., T) is False where a sequence is filled up; such a step leaves the state as it is.
    """

    gates = PLAIN


class GRU(Unrolled):
    """h_t = GRUCell(x_t, h_(t−1))      (..., T, I), (..., H) → (..., T, H), (..., H)

    Gives all states, and the last one once more; h and `mask` as in RNN.
    """

    gates = GATED


class LSTM(Unrolled):
    """h_t, c_t = LSTMCell(x_t, h_(t−1), c_(t−1))      (..., T, I), (..., H), (..., H) → (..., T, H), (..., H), (..., H)

    Gives all states, then the last state and the last cell; h, c and `mask` as in RNN.
    """

    gates = WITH_CELL


def _check_mask(mask, shape):
    """Return the mask as booleans, (..., T); raise unless it is one."""
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask has dtype {mask.dtype}; it must be boolean, False where a sequence is filled up")
    check_size("that of x without its channels", shape, **{"the shape of mask": mask.shape})
    return mask


def _choose(mask, state, other):
    """`state` where the mask is True, `other` where it is False, for every part of a state."""
    return tuple(np.where(mask[..., None], part, another) for part, another in zip(state, other))


def _stack(states, like):
    """A list of T states (..., H) as one array (..., T, H), also for T = 0."""
    return np.stack(states, axis=-2) if states else np.empty((*like.shape[:-1], 0, like.shape[-1]), like.dtype)


def _several(value):
    return value if isinstance(value, tuple) else (value,)


def _single(values):
    return values if len(values) > 1 else values[0]

"""Optimizers: how far, and which way, a gradient moves a weight.

    loss → gradients → [step] → weights a little better

Plain gradient descent goes the same factor for every weight; momentum keeps going where the last steps went. Adam
measures each weight's own gradients and goes about the same distance for all; AdamW shrinks the weights apart from
that.

Momentum: Polyak 1964; Kingma, Ba 2015, Adam, algorithm 1; Loshchilov, Hutter 2019, Decoupled Weight Decay
Regularization, algorithm 2.
"""

import math

import numpy as np

from npllm.core.checks import check_probability


class SGD:
    """velocity ← momentum · velocity + gradient,  w ← w − learning_rate · velocity

    `parameters` are what named_parameters() yields. One without a gradient stays as it is. With momentum 0, the
    default, the velocity is the gradient.
    """

    def __init__(self, parameters, learning_rate, momentum=0.0):
        self.parameters, self.learning_rate, self.momentum = _named(parameters), learning_rate, momentum
        _not_negative(learning_rate=learning_rate, momentum=momentum)
        self.velocities = {name: np.zeros_like(p.data) for name, p in self.parameters.items()} if momentum else {}

    def step(self):
        """Move every weight."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            move = parameter.grad
            if self.momentum:
                move = self.velocities[name]
                move *= float(self.momentum)
                move += parameter.grad
            parameter.data -= float(self.learning_rate) * move

    def state_dict(self):
        """The velocities, as arrays by name; the arrays themselves."""
        return {f"velocities.{name}": array for name, array in self.velocities.items()}

    def load_state_dict(self, state, steps=0):
        """Copy what `state_dict` gave; raises KeyError or ValueError, before anything is written, unless it fits."""
        _copy_into(self.state_dict(), state)


class AdamW:
    """w ← w − learning_rate · (m̂ / (√v̂ + eps) + weight_decay · w)

    m ← β₁ m + (1 − β₁) gradient and v ← β₂ v + (1 − β₂) gradient² are running averages;
    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) make up for their start at 0. Options have the meaning and the defaults of
    torch.optim.AdamW. `decays(name, parameter)` says which weights decay: all, unless given; see `is_matrix`.
    """

    def __init__(self, parameters, learning_rate=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, decays=None):
        self.parameters = _named(parameters)
        _not_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
        for index, beta in enumerate(betas):
            check_probability(f"betas[{index}]", beta)
        self.learning_rate, self.betas, self.eps, self.weight_decay = learning_rate, betas, eps, weight_decay
        self.decaying = {name for name, p in self.parameters.items() if decays is None or decays(name, p)}
        self.steps = dict.fromkeys(self.parameters, 0)  # each counts its own: one without a gradient stands still
        self.averages = {name: np.zeros_like(p.data) for name, p in self.parameters.items()}
        self.squares = {name: np.zeros_like(p.data) for name, p in self.parameters.items()}

    def step(self):
        """Move every weight."""
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self.steps[name] += 1
                self._move(name, parameter)

    def _move(self, name, parameter):
        gradient, average, square, steps = parameter.grad, self.averages[name], self.squares[name], self.steps[name]
        learning_rate, (beta1, beta2) = float(self.learning_rate), map(float, self.betas)
        average *= beta1
        average += (1.0 - beta1) * gradient
        square *= beta2
        square += (1.0 - beta2) * (gradient * gradient)
        average_correction = 1.0 - beta1**steps
        square_correction = math.sqrt(1.0 - beta2**steps)
        if name in self.decaying:
            parameter.data *= 1.0 - learning_rate * float(self.weight_decay)
        denominator = np.sqrt(square) / square_correction + float(self.eps)
        parameter.data -= (learning_rate / average_correction) * average / denominator

    def state_dict(self):
        """Both running averages, as arrays by name; the arrays themselves. (`steps` are numbers beside them.)"""
        averages = {f"averages.{name}": array for name, array in self.averages.items()}
        return averages | {f"squares.{name}": array for name, array in self.squares.items()}

    def load_state_dict(self, state, steps):
        """Copy what `state_dict` gave; raises KeyError or ValueError, before anything is written, unless it fits."""
        if steps.keys() != self.steps.keys():
            raise KeyError(f"steps do not fit the optimizer: {sorted(steps.keys() ^ self.steps.keys())}")
        _copy_into(self.state_dict(), state)
        self.steps = dict(steps)


def is_matrix(name, parameter):
    """Whether a parameter is a matrix or table: these decay; biases and the weights of norms do not."""
    return parameter.data.ndim >= 2


def _named(parameters):
    """The parameters as a dict by name; raise unless there is at least one."""
    parameters = list(parameters.items() if isinstance(parameters, dict) else parameters)
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in parameters):
        raise TypeError("parameters must be pairs of a name and a Parameter, as model.named_parameters() yields them")
    if not parameters:
        raise ValueError("parameters is empty (a generator can be used once only); there is nothing to learn")
    return dict(parameters)


def _not_negative(**numbers):
    for name, number in numbers.items():
        if not number >= 0:
            raise ValueError(f"{name} is {number}; it must be at least 0")


def _copy_into(own, state):
    if own.keys() != state.keys():
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        raise KeyError(f"state does not fit the optimizer: missing {missing}, unknown {unknown}")
    for name, array in own.items():
        if np.shape(state[name]) != array.shape:
            raise ValueError(f"{name} has shape {np.shape(state[name])}; it must be {array.shape}")
    for name, array in own.items():
        array[...] = state[name]

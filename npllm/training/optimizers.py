"""Optimizers: update each parameter from its gradient.

    loss → gradients → [step] → updated parameters

SGD moves every weight by the same multiple of its gradient; momentum adds the moving sum of earlier gradients. Adam
divides each weight's step by a running estimate of its gradient's magnitude, so that all weights move by about the
learning rate. AdamW applies weight decay directly to the weights instead of adding it to the gradient.

Momentum: Polyak 1964; Kingma, Ba 2015, Adam, algorithm 1; Loshchilov, Hutter 2019, Decoupled Weight Decay
Regularization, algorithm 2.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from npllm.core.checks import check_list, check_not_negative, check_probability
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.module import Parameter
from npllm.core.row_blocks import update_elements
from npllm.core.state import copy_into

NamedParameters = Mapping[str, Parameter] | Iterable[tuple[str, Parameter]]


class SGD:
    """velocity ← momentum · velocity + gradient,  w ← w − learning_rate · velocity

    `parameters` are pairs of name and Parameter, as `model.named_parameters()` yields them, or a dict. A parameter
    without a gradient is not changed. With momentum 0, the default, the velocity is the gradient.
    """

    def __init__(self, parameters: NamedParameters, learning_rate: float, momentum: float = 0.0):
        _check_not_negative(learning_rate=learning_rate, momentum=momentum)
        self.parameters = _as_dict(parameters)
        self.learning_rate, self.momentum = learning_rate, momentum
        self.velocities = {name: np.zeros_like(p.data) for name, p in self.parameters.items()} if momentum else {}

    def zero_grad(self) -> None:
        """Set every gradient to None."""
        _zero_grad(self.parameters)

    @ieee_arithmetic
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            if self.momentum:
                update_elements(self._update, parameter.data, parameter.grad, self.velocities[name])
            else:
                update_elements(self._update, parameter.data, parameter.grad)

    def _update(self, w: np.ndarray, gradient: np.ndarray, velocity: np.ndarray | None = None) -> None:
        """The formula, on a block of a parameter."""
        if velocity is None:
            velocity = gradient
        else:
            velocity *= float(self.momentum)
            velocity += gradient
        w -= float(self.learning_rate) * velocity

    def state_dict(self) -> dict[str, np.ndarray]:
        """The velocities by name; the arrays themselves, not copies."""
        return {f"velocities.{name}": array for name, array in self.velocities.items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy in what `state_dict` returned; raises KeyError, ValueError or TypeError, see `copy_into`."""
        copy_into(self.state_dict(), state, "SGD")


class AdamW:
    """w ← w − learning_rate · (m̂ / (√v̂ + eps) + weight_decay · w)

    m ← β₁ m + (1 − β₁) gradient        exp_avg:     running average of the gradient
    v ← β₂ v + (1 − β₂) gradient²       exp_avg_sq:  running average of its square
    m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)    correct the bias towards 0, the initial value of both

    Options have the meaning and the defaults of torch.optim.AdamW. `weight_decay_filter(name, parameter)` returns
    whether a parameter decays; without it all do. See `decays_weight`.
    """

    def __init__(
        self,
        parameters: NamedParameters,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        weight_decay_filter: Callable[[str, Parameter], bool] | None = None,
    ):
        _check_not_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"betas is {betas!r:.80}; it must be a pair of numbers, such as (0.9, 0.999)")
        for index, beta in enumerate(betas):
            check_probability(f"betas[{index}]", beta)
        if weight_decay_filter is not None and not callable(weight_decay_filter):
            raise TypeError(f"weight_decay_filter is {weight_decay_filter!r:.80}; it must be a function or None")
        self.parameters = _as_dict(parameters)
        self.learning_rate, self.betas, self.eps, self.weight_decay = learning_rate, betas, eps, weight_decay
        decays = weight_decay_filter or (lambda name, parameter: True)
        self.decaying = {name for name, parameter in self.parameters.items() if decays(name, parameter)}
        self.steps = dict.fromkeys(self.parameters, 0)  # t, counted for each: no gradient, no step
        self.exp_avg = {name: np.zeros_like(p.data) for name, p in self.parameters.items()}
        self.exp_avg_sq = {name: np.zeros_like(p.data) for name, p in self.parameters.items()}

    def zero_grad(self) -> None:
        """Set every gradient to None."""
        _zero_grad(self.parameters)

    @ieee_arithmetic
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self.steps[name] += 1
                self._update(name, parameter)

    def _update(self, name, parameter):
        t, learning_rate, (beta1, beta2) = self.steps[name], float(self.learning_rate), map(float, self.betas)
        bias_correction1 = 1.0 - beta1**t
        bias_correction2 = 1.0 - beta2**t

        def formula(w: np.ndarray, gradient: np.ndarray, m: np.ndarray, v: np.ndarray) -> None:
            m *= beta1
            m += (1.0 - beta1) * gradient
            v *= beta2
            v += (1.0 - beta2) * gradient * gradient  # from left to right: gradient² alone overflows earlier
            if name in self.decaying:
                w *= 1.0 - learning_rate * float(self.weight_decay)
            denominator = np.sqrt(v) / math.sqrt(bias_correction2) + float(self.eps)  # √v̂ + eps
            w -= (learning_rate / bias_correction1) * m / denominator

        update_elements(formula, parameter.data, parameter.grad, self.exp_avg[name], self.exp_avg_sq[name])

    def state_dict(self) -> dict[str, np.ndarray]:
        """Both running averages by name; the arrays themselves, not copies. (`steps` are integers beside them.)"""
        state = {f"exp_avg.{name}": array for name, array in self.exp_avg.items()}
        return state | {f"exp_avg_sq.{name}": array for name, array in self.exp_avg_sq.items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray], steps: Mapping[str, int]) -> None:
        """Copy in what `state_dict` returned, and `steps`; raises KeyError, ValueError or TypeError, see `copy_into`.

        Nothing is written unless all of it fits.
        """
        self.check_steps(steps)
        copy_into(self.state_dict(), state, "AdamW")
        self.steps = dict(steps)

    def check_steps(self, steps: Mapping[str, int]) -> None:
        """Raise KeyError unless `steps` has exactly the names of the parameters."""
        if steps.keys() != self.steps.keys():
            raise KeyError(f"steps does not fit AdamW: {sorted(steps.keys() ^ self.steps.keys())} are in only one")


def decays_weight(name: str, parameter: Parameter) -> bool:
    """Whether a parameter has two or more axes: matrices and embeddings decay, biases and norm weights do not."""
    return parameter.data.ndim >= 2


def _zero_grad(parameters):
    for parameter in parameters.values():
        parameter.grad = None


def _as_dict(parameters: NamedParameters) -> dict[str, Parameter]:
    """The parameters as a dict by name; raise unless there is at least one."""
    pairs = [*parameters.items()] if isinstance(parameters, Mapping) else check_list("parameters", parameters)
    if not all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Parameter) for pair in pairs):
        raise TypeError("parameters must be pairs of a name and a Parameter, as model.named_parameters() yields them")
    if not pairs:
        raise ValueError("parameters is empty (a generator can be used once only); it must have at least one")
    return dict(pairs)


def _check_not_negative(**numbers):
    for name, number in numbers.items():
        check_not_negative(name, number)

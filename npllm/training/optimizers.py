"""Optimizers: how far, and which way, a gradient moves a weight.

    loss → gradients → [step] → weights a little better

Plain gradient descent goes the same factor for every weight. Adam measures each weight's own gradients and goes about
the same distance for all; AdamW shrinks the weights apart from that.

Kingma, Ba 2015, Adam, algorithm 1; Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization, algorithm 2.
"""

import math

import numpy as np


class SGD:
    """w ← w − learning_rate · gradient

    `parameters` are what named_parameters() yields. One without a gradient stays as it is.
    """

    def __init__(self, parameters, learning_rate):
        self.parameters = dict(parameters)
        self.learning_rate = learning_rate

    def step(self):
        """Move every weight."""
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.data -= float(self.learning_rate) * parameter.grad


class AdamW:
    """w ← w − learning_rate · (m̂ / (√v̂ + eps) + weight_decay · w)

    m ← β₁ m + (1 − β₁) gradient and v ← β₂ v + (1 − β₂) gradient² are running averages;
    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) make up for their start at 0. Options have the meaning and the defaults of
    torch.optim.AdamW.
    """

    def __init__(self, parameters, learning_rate=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.parameters = dict(parameters)
        self.learning_rate, self.betas, self.eps, self.weight_decay = learning_rate, betas, eps, weight_decay
        self.steps = 0
        self.averages = {name: np.zeros_like(p.data) for name, p in self.parameters.items()}
        self.squares = {name: np.zeros_like(p.data) for name, p in self.parameters.items()}

    def step(self):
        """Move every weight."""
        self.steps += 1
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self._move(parameter, self.averages[name], self.squares[name])

    def _move(self, parameter, average, square):
        gradient, learning_rate, (beta1, beta2) = parameter.grad, float(self.learning_rate), map(float, self.betas)
        average *= beta1
        average += (1.0 - beta1) * gradient
        square *= beta2
        square += (1.0 - beta2) * (gradient * gradient)
        average_correction = 1.0 - beta1**self.steps
        square_correction = math.sqrt(1.0 - beta2**self.steps)
        parameter.data *= 1.0 - learning_rate * float(self.weight_decay)
        denominator = np.sqrt(square) / square_correction + float(self.eps)
        parameter.data -= (learning_rate / average_correction) * average / denominator

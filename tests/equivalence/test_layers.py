"""check_layer must find every kind of error: each test gives it a broken Linear or Dropout."""

import numpy as np
import pytest

from npllm.core import Module
from npllm.functional import Cache
from npllm.layers import Dropout, Linear
from tests.equivalence import check_layer

X = np.random.default_rng(0).standard_normal((3, 4, 5))
CONFIG = {"in_features": 5, "out_features": 3}


def test_a_correct_implementation_passes(candidate):
    class Linear2(Linear):
        pass

    candidate.Linear = Linear2
    check_layer("Linear", CONFIG, X, dtype="float64")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda layer, dx: dx * 0, "gradient of input"),
        (lambda layer, dx: layer.weight.grad.__imul__(2) is None or dx, "gradient of parameter weight"),
        (lambda layer, dx: setattr(layer.bias, "grad", None) or dx, "left bias without a gradient"),
        (lambda layer, dx: None, "must return a gradient"),
    ],
)
def test_a_wrong_backward(candidate, broken, message):
    class Broken(Linear):
        def backward(self, dy, cache):
            return broken(self, super().backward(dy, cache))

    candidate.Linear = Broken
    with pytest.raises(AssertionError, match=message):
        check_layer("Linear", CONFIG, X, dtype="float64")


def test_a_gradient_that_shares_memory_with_the_cotangent(candidate):
    class Aliasing(Linear):
        def backward(self, dy, cache):
            dx = super().backward(dy, cache)
            self.bias.grad = dy[0, 0]
            return dx

    candidate.Linear = Aliasing
    with pytest.raises(AssertionError, match="must be an array of its own"):
        check_layer("Linear", CONFIG, X, dtype="float64")


def test_a_hidden_parameter(candidate):
    class Hiding(Linear):
        def named_parameters(self, prefix=""):
            return (pair for pair in super().named_parameters(prefix) if not pair[0].endswith("bias"))

    candidate.Linear = Hiding
    with pytest.raises(AssertionError, match=r"has parameters \['weight'\]; the reference"):
        check_layer("Linear", CONFIG, X, dtype="float64")


def test_gradients_that_do_not_accumulate(candidate):
    class Assigning(Linear):
        def backward(self, dy, cache):
            self.zero_grad()
            return super().backward(dy, cache)

    candidate.Linear = Assigning
    with pytest.raises(AssertionError, match="backward must add to weight.grad"):
        check_layer("Linear", CONFIG, X, dtype="float64")


def test_a_layer_that_stores_its_input_on_itself(candidate):
    class Keeping(Linear):
        def forward(self, x):
            self.x = x
            return super().forward(x)

        def backward(self, dy, cache):
            cache.x = self.x
            return super().backward(dy, cache)

    candidate.Linear = Keeping
    with pytest.raises(AssertionError, match="gradient of parameter weight"):
        check_layer("Linear", CONFIG, X, dtype="float64")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda mask: mask * 7, "must multiply by 0 or 1"),
        (lambda mask: np.ones_like(mask), "must multiply by 0 or 1"),
    ],
)
def test_a_wrong_dropout_mask(candidate, wrong, message):
    class Wrong(Dropout):
        def forward(self, x, *, rng=None):
            dropout_mask = wrong(self.draw_dropout_mask(x.shape, rng, x.dtype)) if rng else np.ones_like(x)
            return x * dropout_mask, Cache(dropout_mask=dropout_mask)

    candidate.Dropout = Wrong
    with pytest.raises(AssertionError, match=message):
        check_layer("Dropout", {"p": 0.3}, X, dtype="float64", dropout=True)


def test_other_names_of_parameters(candidate):
    class Renamed(Module):
        def __init__(self, in_features, out_features, *, rng, dtype):
            self.inner = Linear(in_features, out_features, rng=rng, dtype=dtype)

    candidate.Linear = Renamed
    with pytest.raises(RuntimeError, match="inner.weight"):
        check_layer("Linear", CONFIG, X, dtype="float64")


def test_a_layer_without_a_backward_is_compared_in_value(candidate):
    class OnlyForward(Linear):
        backward = Module.backward

    candidate.Linear = OnlyForward
    check_layer("Linear", CONFIG, X, dtype="float64")

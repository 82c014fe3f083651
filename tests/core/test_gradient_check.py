import numpy as np
import pytest

from npllm import functional as F
from npllm.core.gradient_check import check_function_gradients, check_gradients, check_layer_gradients
from npllm.layers import Linear


def cubes(x, y):
    return (x**3).sum() + (x * y).sum()


def inputs():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 3)), rng.standard_normal((2, 3))


def test_correct_gradients_pass_and_the_inputs_are_restored():
    x, y = inputs()
    before = x.copy(), y.copy()
    check_gradients(cubes, [x, y], [3 * x * x + y, x], np.random.default_rng(1))
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize("factor", [0.0, 1.0001, -1.0, 42.0])
def test_a_wrong_gradient_is_an_error_that_names_the_input(factor):
    x, y = inputs()
    with pytest.raises(AssertionError, match="input 1: the finite difference is"):
        check_gradients(cubes, [x, y], [3 * x * x + y, factor * x], np.random.default_rng(1))


def test_one_wrong_element_is_found():
    x, y = inputs()
    dx = 3 * x * x + y
    dx[1, 2] += 1e-3
    with pytest.raises(AssertionError, match="input 0"):
        check_gradients(cubes, [x, y], [dx, x], np.random.default_rng(1))


def test_float32_and_other_shapes_are_refused():
    x, y = inputs()
    with pytest.raises(AssertionError, match="input 0 has dtype float32; finite differences need float64"):
        check_gradients(cubes, [x.astype("float32"), y], [x, x], np.random.default_rng(1))
    with pytest.raises(AssertionError, match=r"gradient 0 has shape \(3,\); it must be \(2, 3\)"):
        check_gradients(cubes, [x, y], [x[0], x], np.random.default_rng(1))


def test_a_wrong_backward_of_a_function_is_found():
    x, _ = inputs()
    with pytest.raises(AssertionError, match="input 0"):
        check_function_gradients(F.softmax_forward, lambda dy, cache: dy * cache.y, [x], np.random.default_rng(1))


def test_a_wrong_gradient_of_a_parameter_is_found():
    class Wrong(Linear):
        """A linear layer whose bias gradient is too large."""

        def backward(self, dy, cache):
            """dx, with a wrong dbias."""
            dx = super().backward(dy, cache)
            self.bias.grad = 2 * self.bias.grad
            return dx

    rng = np.random.default_rng(0)
    check_layer_gradients(Linear(3, 2, rng=rng, dtype="float64"), [inputs()[0]], rng)
    with pytest.raises(AssertionError, match="input 2"):
        check_layer_gradients(Wrong(3, 2, rng=rng, dtype="float64"), [inputs()[0]], rng)

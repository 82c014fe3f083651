import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm import layers
from npllm.core.gradient_check import check_function_gradients
from npllm.layers import Linear, linear
from tests.equivalence import check_function, check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes


@pytest.mark.covers("linear")
class TestFunction:
    @given(st.data(), dtypes, leading, sizes, sizes, st.booleans())
    def test_equals_pytorch(self, data, dtype, batch, inputs, outputs, has_bias):
        x = data.draw(arrays((*batch, inputs), dtype))
        weight = data.draw(arrays((outputs, inputs), dtype))
        bias = data.draw(arrays((outputs,), dtype)) if has_bias else None
        check_function("linear", x, weight, bias)

    def test_finite_differences(self):
        rng = np.random.default_rng(0)
        inputs = [rng.standard_normal(shape) for shape in ((2, 3, 5), (4, 5), (4,))]
        check_function_gradients(F.linear_forward, F.linear_backward, inputs, rng)

    def test_plain_loops(self):
        rng = np.random.default_rng(0)
        x, weight, bias = rng.standard_normal((3, 5)), rng.standard_normal((4, 5)), rng.standard_normal(4)
        expected = [[sum(a * w for a, w in zip(row, out)) + b for out, b in zip(weight, bias)] for row in x]
        np.testing.assert_allclose(implementation("linear")(x, weight, bias), expected, rtol=1e-12)

    def test_invalid_arguments(self):
        x = np.zeros((2, 3), np.float32)
        with pytest.raises(ValueError, match=r"x has shape \(2, 3\); it must be \(..., I\) with I = 5"):
            F.linear(x, np.zeros((4, 5), np.float32))
        with pytest.raises(ValueError, match=r"bias has shape \(1,\); it must be \(O\) with O = 4"):
            F.linear(x, np.zeros((4, 3), np.float32), np.zeros(1, np.float32))
        with pytest.raises(TypeError, match="weight is float64 but x is float32"):
            F.linear(x, np.zeros((4, 3)))
        with pytest.raises(ValueError, match=r"weight has shape \(3,\); it must be \(O, I\)"):
            F.linear(x, np.zeros(3, np.float32))
        with pytest.raises(ValueError, match=r"x has shape \(\); it must be \(..., I\)"):
            F.linear(np.float32(1), np.zeros((4, 3), np.float32))


@pytest.mark.covers("Linear")
class TestLayer:
    @given(st.data(), dtypes, leading, sizes, sizes, st.booleans())
    def test_equals_pytorch(self, data, dtype, batch, inputs, outputs, bias):
        config = {"in_features": inputs, "out_features": outputs, "bias": bias}
        check_layer("Linear", config, data.draw(arrays((*batch, inputs), dtype)), dtype=dtype)

    def test_initial_weights_have_the_distribution_of_pytorchs(self):
        ours = Linear(50, 400, rng=np.random.default_rng(0)).weight.data
        theirs = torch.nn.Linear(50, 400).weight.detach().numpy()
        assert abs(ours).max() <= 1 / np.sqrt(50)
        assert ours.std() == pytest.approx(theirs.std(), rel=0.05)  # 20,000 draws: the standard error is half a percent

    def test_the_error_for_a_float64_input_of_a_float32_layer_names_the_remedy(self):
        message = r'x\.astype\("float32"\), or construct the layer with dtype="float64"'
        with pytest.raises(TypeError, match=message):
            Linear(3, 2)(np.zeros((1, 3)))

    @pytest.mark.parametrize("block_size", [1, 7, 2**20])
    def test_a_second_gradient_is_added_in_blocks(self, block_size, monkeypatch):
        monkeypatch.setattr(linear, "BLOCK_SIZE", block_size)
        rng = np.random.default_rng(0)
        layer = Linear(3, 5, rng=rng, dtype="float64")
        expected = 0.0
        for _ in range(3):
            y, cache = layer.forward(rng.standard_normal((2, 4, 3)))
            dy = rng.standard_normal(y.shape)
            layer.backward(dy, cache)
            expected = expected + F.linear_backward(dy, cache)[1]
        np.testing.assert_allclose(layer.weight.grad, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("error")
def test_gradients_that_overflow_are_infinite_without_a_warning():
    layer = layers.Linear(3, 2)
    y, cache = layer.forward(np.ones((4, 3), np.float32))
    for _ in range(2):
        layer.backward(np.full_like(y, np.finfo(y.dtype).max), cache)
    assert np.isinf(layer.weight.grad).any()

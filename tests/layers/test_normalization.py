import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_function_gradients
from tests.equivalence import check_function, check_layer, implementation
from tests.strategies import arrays, dtypes, leading

channels = st.integers(2, 9)


@pytest.mark.covers("layer_norm")
class TestLayerNorm:
    @given(st.data(), dtypes, leading, channels, st.booleans(), st.booleans(), st.sampled_from([1e-5, 1e-3]))
    def test_equals_pytorch(self, data, dtype, batch, size, has_weight, has_bias, eps):
        x = data.draw(arrays((*batch, size), dtype, scale=5.0))
        weight = data.draw(arrays((size,), dtype)) if has_weight else None
        bias = data.draw(arrays((size,), dtype)) if has_bias else None
        # where all channels are nearly equal, 1/std is up to 300 and multiplies the rounding of the mean
        check_function("layer_norm", x, weight, bias, eps, loosen=300.0 if np.ptp(x, axis=-1).min() < 1 else 10.0)

    @given(st.data(), leading, channels)
    def test_mean_zero_and_variance_one(self, data, batch, size):
        x = data.draw(arrays((*batch, size), np.dtype(np.float64)))
        y = implementation("layer_norm")(x, eps=0.0 if x.std(axis=-1).min() > 0 else 1e-5)
        np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-7)
        variance = x.var(axis=-1)
        spread = variance > 1e-3
        np.testing.assert_allclose(y.var(axis=-1)[spread], 1, rtol=2e-2)

    @given(st.data(), channels, st.floats(0.5, 100), st.floats(-100, 100))
    def test_scale_and_shift_of_the_input_do_not_change_the_output(self, data, size, factor, shift):
        x = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal((3, size))
        layer_norm = implementation("layer_norm")
        np.testing.assert_allclose(layer_norm(x * factor + shift, eps=0.0), layer_norm(x, eps=0.0), atol=1e-7)


@pytest.mark.covers("rms_norm")
class TestRMSNorm:
    @given(st.data(), dtypes, leading, channels, st.booleans(), st.sampled_from([1e-6, 1e-3]))
    def test_equals_pytorch(self, data, dtype, batch, size, has_weight, eps):
        x = data.draw(arrays((*batch, size), dtype, scale=5.0))
        weight = data.draw(arrays((size,), dtype)) if has_weight else None
        # of a row of tiny or no numbers, 1/rms is up to 1000 and multiplies the rounding
        check_function("rms_norm", x, weight, eps, loosen=300.0 if np.abs(x).max(axis=-1).min() < 1 else 10.0)

    def test_equals_layer_norm_where_the_mean_is_zero(self):
        x = np.random.default_rng(0).standard_normal((4, 6))
        x -= x.mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(implementation("rms_norm")(x, eps=1e-5), F.layer_norm(x, eps=1e-5), rtol=1e-10)


def test_finite_differences():
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape) for shape in ((2, 3, 5), (5,), (5,))]
    check_function_gradients(F.layer_norm_forward, F.layer_norm_backward, inputs, rng)
    check_function_gradients(F.rms_norm_forward, F.rms_norm_backward, inputs[:2], rng)


def test_invalid_arguments():
    with pytest.raises(ValueError, match=r"bias has shape \(4,\); it must be \(C\) with C = 3"):
        F.layer_norm(np.zeros((2, 3)), np.ones(3), np.zeros(4))
    with pytest.raises(ValueError, match=r"weight has shape \(1,\); it must be \(C\) with C = 3"):
        F.rms_norm(np.zeros((2, 3)), np.ones(1))
    with pytest.raises(ValueError, match=r"x has shape \(\); it must be \(..., C\)"):
        F.layer_norm(np.float64(1.0))


@pytest.mark.covers("l2_normalize")
class TestL2Normalize:
    @given(st.data(), dtypes, leading, channels, st.sampled_from([1e-6, 1e-3]))
    def test_equals_pytorch(self, data, dtype, batch, size, eps):
        check_function("l2_normalize", data.draw(arrays((*batch, size), dtype, scale=5.0)), eps, loosen=10.0)

    def test_the_result_has_length_one_and_the_direction_of_x(self):
        x = np.random.default_rng(0).standard_normal((4, 5))
        y = implementation("l2_normalize")(x, eps=0.0)
        np.testing.assert_allclose(np.linalg.norm(y, axis=-1), 1, rtol=1e-12)
        np.testing.assert_allclose(y * np.linalg.norm(x, axis=-1, keepdims=True), x, rtol=1e-12)

    def test_finite_differences(self):
        rng = np.random.default_rng(0)
        check_function_gradients(F.l2_normalize_forward, F.l2_normalize_backward, [rng.standard_normal((3, 5))], rng)


@pytest.mark.covers("LayerNorm")
@given(st.data(), dtypes, leading, channels, st.booleans(), st.booleans())
def test_layer_norm_layer_equals_pytorch(data, dtype, batch, size, bias, affine):
    x = data.draw(arrays((*batch, size), dtype))
    # where all channels are nearly equal, 1/std is up to 300 and multiplies the rounding of the mean
    config = {"num_channels": size, "bias": bias, "elementwise_affine": affine}
    check_layer("LayerNorm", config, x, dtype=dtype, loosen=30.0)


@pytest.mark.covers("RMSNorm")
@given(st.data(), dtypes, leading, st.integers(1, 9), st.booleans())
def test_rms_norm_layer_equals_pytorch(data, dtype, batch, size, unit_offset):
    x = data.draw(arrays((*batch, size), dtype))
    # of a row of tiny or no numbers, 1/rms is up to 1000 and multiplies the rounding
    check_layer("RMSNorm", {"num_channels": size, "unit_offset": unit_offset}, x, dtype=dtype, loosen=30.0)


@pytest.mark.covers("RMSNorm")
def test_rms_norm_with_a_unit_offset_equals_that_of_gemma():
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

    x, weight = np.random.default_rng(0).standard_normal((2, 3, 5), dtype=np.float32), np.linspace(-1, 1, 5)
    layer, reference = implementation("RMSNorm")(5, unit_offset=True), Gemma2RMSNorm(5)
    np.testing.assert_array_equal(layer(x), implementation("RMSNorm")(5)(x))  # at the initial weights
    layer.load_state_dict({"weight": weight.astype(np.float32)})
    reference.load_state_dict({"weight": torch.tensor(weight)})
    np.testing.assert_allclose(layer(x), reference(torch.tensor(x)).detach(), rtol=1e-6)


class TestOverflow:
    """The squares of x overflow, the result does not: y of x equals y of x divided by its largest magnitude."""

    @given(st.data(), dtypes, leading, channels, st.floats(0.6, 1.0))
    def test_equals_the_result_of_the_scaled_row(self, data, dtype, batch, size, exponent):
        small = data.draw(arrays((*batch, size), dtype))
        scale = dtype.type(np.finfo(dtype).max ** exponent / 64)
        for name in ("layer_norm", "rms_norm", "l2_normalize"):
            expected = getattr(F, name)(small.astype(np.float64), eps=1e-300)
            y = getattr(F, name)(small * scale)
            assert y.dtype == dtype
            spread = np.ptp(small, axis=-1) > 1e-2  # a row of equal channels is rounding alone
            np.testing.assert_allclose(y[spread], expected[spread], atol=1e-3)

    def test_gradient_is_that_of_the_scaled_row_divided_by_the_scale(self):
        x, dy = np.array([1.0, -1.0, 2.0, 0.0], np.float32), np.array([0.3, -1.2, 0.4, 0.9], np.float32)
        for name in ("layer_norm", "rms_norm", "l2_normalize"):
            forward, backward = getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward")
            expected = backward(dy, forward(x, eps=0.0)[1])
            scale = np.float32(2.0**100)
            np.testing.assert_allclose(backward(dy, forward(x * scale)[1]) * scale, expected, rtol=1e-5, atol=1e-6)

    def test_infinite_input_gives_nan(self):
        with np.errstate(invalid="ignore"):
            assert np.isnan(F.layer_norm(np.array([np.inf, 1.0, 2.0], np.float32))).all()

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention.base import attention_mask, join_heads, split_heads
from npllm.core.gradient_check import check_function_gradients
from tests.equivalence import check_function
from tests.strategies import arrays, dtypes, leading, sizes


@st.composite
def inputs(draw):
    """q, k, v with grouped heads, and the options of the core."""
    dtype, batch, (T, S, D, E) = draw(dtypes), draw(leading), (draw(sizes) for _ in "TSDE")
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    q = draw(arrays((*batch, heads, T, D), dtype))
    k, v = (draw(arrays((*batch, kv_heads, S, n), dtype)) for n in (D, E))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    options = {}
    if draw(st.booleans()):
        options["mask"] = rng.random(draw(st.sampled_from([(T, S), (heads, 1, S)]))) < 0.6
    if draw(st.booleans()):
        options["bias"] = rng.standard_normal(draw(st.sampled_from([(T, S), (heads, T, 1)]))).astype(dtype)
    if draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([0.0, 0.3, 2.0]))
    if draw(st.booleans()):
        options["dropout_mask"] = F.draw_dropout_mask((*batch, heads, T, S), 0.3, rng, dtype)
    return (q, k, v), options


@pytest.mark.covers("attention")
@given(inputs())
def test_equals_pytorch(drawn):
    arguments, options = drawn
    check_function("attention", *arguments, loosen=8.0, **options)


def test_finite_differences():
    rng = np.random.default_rng(0)
    shapes = [(2, 4, 3, 5), (2, 2, 6, 5), (2, 2, 6, 4), (4, 1, 6)]
    arguments = [rng.standard_normal(shape) for shape in shapes]
    mask = rng.random((3, 6)) < 0.7
    dropout_mask = F.draw_dropout_mask((2, 4, 3, 6), 0.3, rng, np.float64)

    def forward(q, k, v, bias):
        return F.attention_forward(q, k, v, mask, bias, 0.7, dropout_mask)

    check_function_gradients(forward, F.attention_backward, arguments, rng)


@pytest.mark.covers("softcap")
@given(st.data(), dtypes, leading, sizes, st.sampled_from([0.5, 5.0, 50.0]))
def test_softcap_equals_pytorch(data, dtype, batch, T, cap):
    check_function("softcap", data.draw(arrays((*batch, T), dtype, 3.0)), cap)


def test_softcap_must_be_positive():
    for cap in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="it must be greater than 0 and finite in float64"):
            F.softcap(np.ones(3), cap)


@given(st.integers(1, 4), sizes, sizes)
def test_splitting_and_joining_heads(num_heads, T, D):
    x = np.arange(2 * T * num_heads * D, dtype=np.float64).reshape(2, T, num_heads * D)
    heads = split_heads(x, num_heads)
    for h in range(num_heads):
        np.testing.assert_array_equal(heads[:, h], x[:, :, h * D : (h + 1) * D])
    np.testing.assert_array_equal(join_heads(heads), x)


def test_a_single_new_token_needs_no_mask():
    assert attention_mask(np.array([4]), np.arange(5)) is None
    assert attention_mask(np.array([4]), np.arange(5), window=2).tolist() == [[False, False, False, True, True]]
    np.testing.assert_array_equal(attention_mask(np.arange(3), np.arange(3)), np.tri(3, dtype=bool))


@pytest.mark.parametrize(
    ("shapes", "options", "error", "message"),
    [
        (((3, 4), (3, 5), (3, 4)), {}, ValueError, "the last axis, D, must be the same in both"),
        (((4,), (3, 4), (3, 4)), {}, ValueError, "each must have at least two axes"),
        (((3, 4), (3, 4), (2, 4)), {}, ValueError, "one value for each of the S keys"),
        (((4, 3, 5), (3, 3, 5), (3, 3, 5)), {}, ValueError, "the leading axes must broadcast"),
        (((3, 4),) * 3, {"mask": np.ones((3, 3))}, TypeError, "mask has dtype float64; it must be boolean"),
        (((3, 4),) * 3, {"mask": np.ones((2, 3), bool)}, ValueError, r"mask has shape \(2, 3\); it must broadcast"),
        (((3, 4),) * 3, {"bias": np.ones((2, 3))}, ValueError, r"bias has shape \(2, 3\); it must broadcast"),
        (((3, 4),) * 3, {"bias": np.ones((3, 3), np.float32)}, TypeError, "bias is float32 but scores is float64"),
        (((3, 4),) * 3, {"dropout_mask": np.ones((4, 3))}, ValueError, r"dropout_mask has shape \(4, 3\)"),
    ],
)
def test_invalid_arguments(shapes, options, error, message):
    with pytest.raises(error, match=message):
        F.attention(*[np.ones(shape) for shape in shapes], **options)

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import ALiBi, T5Bias
from npllm.core.gradient_check import check_function_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes
from torch_ref.attention.variants import relative_bias as reference

NAME = "relative_attention"


def test_slopes_of_the_paper():
    np.testing.assert_allclose(F.alibi_slopes(8), [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256])
    np.testing.assert_allclose(F.alibi_slopes(3), [1 / 16, 1 / 256, 1 / 4])
    assert len(F.alibi_slopes(12)) == 12


@given(st.integers(1, 70))
def test_slopes_equal_those_of_the_reference(num_heads):
    np.testing.assert_allclose(F.alibi_slopes(num_heads), reference.alibi_slopes(num_heads), rtol=1e-12)


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 6, 8, 12])
def test_slopes_equal_those_of_bloom(num_heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 6), num_heads, torch.float32)  # slope · position
    ours = F.alibi_bias(F.alibi_slopes(num_heads), np.array([5]), np.arange(6))[:, 0]
    np.testing.assert_allclose(ours - ours[:, :1], theirs[:, 0], rtol=1e-6, atol=1e-6)


@given(seeds, st.integers(1, 6), st.integers(0, 999))
def test_biases_depend_only_on_the_distance(seed, num_heads, shift):
    rng = np.random.default_rng(seed)
    q, k = rng.integers(0, 300, 5), rng.integers(0, 300, 4)
    slopes = F.alibi_slopes(num_heads)
    np.testing.assert_array_equal(F.alibi_bias(slopes, q + shift, k + shift), F.alibi_bias(slopes, q, k))
    np.testing.assert_array_equal(F.t5_buckets(q + shift, k + shift), F.t5_buckets(q, k))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20), (6, 7)])
def test_buckets_equal_those_of_t5(causal, num_buckets, max_distance):
    from transformers.models.t5.modeling_t5 import T5Attention

    positions = np.arange(300)
    theirs = T5Attention._relative_position_bucket(
        torch.arange(300)[None, :] - torch.arange(300)[:, None], not causal, num_buckets, max_distance
    )
    np.testing.assert_array_equal(F.t5_buckets(positions, positions, num_buckets, max_distance, causal), theirs)


def test_defaults_are_those_of_t5():
    from transformers import T5Config

    theirs = T5Config()
    assert T5Bias() == T5Bias(theirs.relative_attention_num_buckets, theirs.relative_attention_max_distance)


def test_buckets():
    buckets = F.t5_buckets([0], -np.arange(200), 8, 16)[0]
    assert buckets[:4].tolist() == [0, 1, 2, 3]
    assert (np.diff(buckets) >= 0).all()
    assert buckets[-1] == buckets[16] == 7
    for invalid in (lambda: F.t5_buckets([0], [0], 1), lambda: T5Bias(num_buckets=1)):
        with pytest.raises(ValueError, match="num_buckets is 1 and max_distance is 128"):
            invalid()
    with pytest.raises(ValueError, match=r"slopes\[\d\] is .*; it must be at least 0 and finite"):
        ALiBi(slopes=[1.0, -1.0])


@st.composite
def relative_attentions(draw, dtype=None):
    """q, k, v, two tables, buckets, perhaps masks."""
    dtype = draw(dtypes) if dtype is None else dtype
    batch, (T, S, D, E, R) = draw(leading), (draw(sizes) for _ in "TSDER")
    rng = np.random.default_rng(draw(seeds))
    arguments = [draw(arrays(shape, dtype)) for shape in ((*batch, T, D), (*batch, S, D), (*batch, S, E))]
    arguments += [draw(arrays(shape, dtype)) for shape in ((R, D), (R, E))]
    arguments.append(rng.integers(0, R, draw(st.sampled_from([(T, S), (*batch, T, S)]))))
    options = {}
    if draw(st.booleans()):
        options["attn_mask"] = (rng.random((T, S)) < 0.6) | (np.arange(S) == 0)
    if draw(st.booleans()):
        options["dropout_mask"] = F.draw_dropout_mask((*batch, T, S), 0.3, rng, dtype)
    return arguments, options


@pytest.mark.covers(NAME)
@given(relative_attentions())
def test_equals_pytorch(drawn):
    arguments, options = drawn
    check_function(NAME, *arguments, loosen=8.0, **options)


@pytest.mark.covers(NAME)
def test_finite_differences():
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(s) for s in ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2), (4, 5), (4, 2))]
    options = {"buckets": rng.integers(0, 4, (4, 6)), "attn_mask": np.tri(4, 6, 2, bool)}
    check_function_gradients(F.relative_attention_forward, F.relative_attention_backward, inputs, rng, **options)


@pytest.mark.covers(NAME)
@given(relative_attentions(np.dtype(np.float64)))
def test_zero_tables_are_plain_attention(drawn):
    (q, k, v, key_table, value_table, buckets), options = drawn
    y = implementation(NAME)(q, k, v, 0 * key_table, 0 * value_table, buckets, **options)
    plain = F.scaled_dot_product_attention(q, k, v, options.get("attn_mask"), dropout_mask=options.get("dropout_mask"))
    np.testing.assert_allclose(y, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({3: np.ones((4, 6))}, ValueError, r"key_table has shape \(4, 6\); it must be \(R, D\) with D = 5"),
        ({4: np.ones((3, 2))}, ValueError, r"value_table has shape \(3, 2\); it must be \(R, E\) with R = 4"),
        ({5: np.full((3, 6), 4)}, IndexError, r"buckets\[0, 0\] is 4; it must be in \[0, 4\)"),
        ({5: np.zeros((3, 6))}, TypeError, "buckets has dtype float64"),
        ({6: np.zeros((3, 6))}, TypeError, "attn_mask has dtype float64; it must be bool"),
        ({6: None, 7: np.ones((3, 6), np.float32)}, TypeError, "dropout_mask is float32 but q is float64"),
        ({5: np.zeros((2, 6), int)}, ValueError, r"buckets has shape \(2, 6\); it must broadcast"),
    ],
)
def test_invalid_arguments(change, error, message):
    arguments = [np.ones((3, 5)), np.ones((6, 5)), np.ones((6, 2)), np.ones((4, 5)), np.ones((4, 2)),
                 np.zeros((3, 6), int)]  # fmt: skip
    for index, value in change.items():
        arguments[index : index + 1] = [value]
    with pytest.raises(error, match=message):
        F.relative_attention(*arguments)

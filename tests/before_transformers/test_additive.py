import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.before_transformers import AdditiveAttention
from npllm.core.gradient_check import check_function_gradients, check_layer_gradients
from tests.equivalence import check_function, check_layer, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes

layer_test = pytest.mark.covers("AdditiveAttention")


@pytest.mark.covers("additive_scores")
@given(st.data(), dtypes, leading, sizes, sizes, sizes, st.sampled_from([1.0, 100.0]))
def test_scores_equal_pytorch(data, dtype, batch, T, S, A, scale):
    q, k = (data.draw(arrays((*batch, length, A), dtype, scale)) for length in (T, S))
    check_function("additive_scores", q, k, data.draw(arrays((A,), dtype)))


@pytest.mark.covers("additive_scores")
def test_finite_differences_of_scores():
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 4, 5)), rng.standard_normal(5)]
    functions = [implementation(f"additive_scores{form}") for form in ("_forward", "_backward")]
    check_function_gradients(*functions, inputs, rng)


@pytest.mark.covers("additive_scores")
@given(st.data(), sizes, sizes, sizes)
def test_scores_equal_plain_loops(data, T, S, A):
    q, k, v = (data.draw(arrays(shape, np.dtype(np.float64))) for shape in ((T, A), (S, A), (A,)))
    scores = implementation("additive_scores")(q, k, v)
    for t in range(T):
        for s in range(S):
            expected = sum(v[a] * math.tanh(q[t, a] + k[s, a]) for a in range(A))
            assert scores[t, s] == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_invalid_arguments_of_scores():
    q, k, v = np.zeros((2, 3, 5)), np.zeros((2, 4, 5)), np.zeros(5)
    with pytest.raises(ValueError, match=r"q has shape \(2, 3, 5\) and k \(4, 5\); their leading dim"):
        F.additive_scores(q, k[0], v)
    with pytest.raises(ValueError, match=r"k has shape \(2, 4, 4\); it must be \(..., S, A\) with A = 5"):
        F.additive_scores(q, k[..., :4], v)
    with pytest.raises(ValueError, match=r"v has shape \(5, 1\); it must be \(A\)"):
        F.additive_scores(q, k, v[:, None])


def build(query_size=3, key_size=4, hidden_size=5):
    rng = np.random.default_rng(0)
    return implementation("AdditiveAttention")(query_size, key_size, hidden_size, rng=rng, dtype="float64")


@layer_test
@given(st.data(), dtypes, leading, sizes, sizes, st.tuples(sizes, sizes, sizes, sizes), st.booleans(), seeds)
def test_equals_pytorch(data, dtype, batch, T, S, all_sizes, masked, seed):
    query_size, key_size, hidden_size, value_size = all_sizes
    q = data.draw(arrays((*batch, T, query_size), dtype))
    k, v = (data.draw(arrays((*batch, S, size), dtype)) for size in (key_size, value_size))
    mask = np.random.default_rng(seed).random((*batch, S)) < 0.6 if masked else None
    config = {"query_size": query_size, "key_size": key_size, "hidden_size": hidden_size}
    check_layer("AdditiveAttention", config, q, k, v, dtype=dtype, mask=mask)


@layer_test
def test_finite_differences():
    layer, rng = build(), np.random.default_rng(1)
    inputs = [rng.standard_normal(shape) for shape in ((2, 3, 3), (2, 6, 4), (2, 6, 2))]
    mask = np.arange(6) < np.array([[6], [4]])
    check_layer_gradients(layer, inputs, rng, lambda: layer.forward(*inputs, mask=mask))


@layer_test
def test_equals_plain_loops():
    layer, rng = build(), np.random.default_rng(2)
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3), (4, 4), (4, 2)))
    W_query, W_key, v_weight = layer.W_query.weight.data, layer.W_key.weight.data, layer.v.data
    y = layer(q, k, v)
    for t in range(2):
        scores = [
            sum(
                v_weight[a] * math.tanh(sum(W_query[a] * q[t]) + sum(W_key[a] * k[s]))
                for a in range(5)
            )
            for s in range(4)
        ]  # fmt: skip
        exponentials = [math.exp(score) for score in scores]
        expected = sum(e / sum(exponentials) * v[s] for s, e in enumerate(exponentials))
        np.testing.assert_allclose(y[t], expected, rtol=1e-12)


@layer_test
def test_a_single_key_gets_all_the_weight():
    layer, rng = build(), np.random.default_rng(3)
    q, k, v = (rng.standard_normal(shape) for shape in ((5, 3), (1, 4), (1, 2)))
    np.testing.assert_array_equal(layer.attention_weights(q, k, v), np.ones((5, 1)))
    np.testing.assert_array_equal(layer(q, k, v), np.repeat(v, 5, axis=0))


@layer_test
@given(st.data(), sizes, sizes)
def test_masked_keys_have_no_weight_and_no_effect(data, T, S):
    layer, rng = build(), np.random.default_rng(4)
    q, k, v = (rng.standard_normal(shape) for shape in ((T, 3), (S, 4), (S, 2)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=S, max_size=S).filter(any)))
    weights = layer.attention_weights(q, k, v, mask=mask)
    assert not weights[:, ~mask].any()
    np.testing.assert_allclose(weights[:, mask], layer.attention_weights(q, k[mask], v[mask]), rtol=1e-12)
    np.testing.assert_allclose(layer(q, k, v, mask=mask), layer(q, k[mask], v[mask]), rtol=1e-12, atol=1e-14)


@layer_test
@given(st.data(), sizes, sizes)
def test_permuted_keys_get_permuted_weights(data, T, S):
    layer, rng = build(), np.random.default_rng(5)
    q, k, v = (rng.standard_normal(shape) for shape in ((T, 3), (S, 4), (S, 2)))
    order = data.draw(st.permutations(range(S)))
    weights = layer.attention_weights(q, k, v)
    np.testing.assert_allclose(layer.attention_weights(q, k[order], v[order]), weights[:, order], rtol=1e-12)
    np.testing.assert_allclose(layer(q, k[order], v[order]), layer(q, k, v), rtol=1e-12, atol=1e-14)


@layer_test
def test_attending_step_by_step_to_projected_keys_equals_all_at_once():
    layer, rng = build(), np.random.default_rng(6)
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 5, 3), (2, 4, 4), (2, 4, 2)))
    keys, _ = layer.project_keys_forward(k)
    steps = [layer.attend_forward(q[:, t : t + 1], keys, v)[0] for t in range(5)]
    np.testing.assert_allclose(np.concatenate(steps, axis=1), layer(q, k, v), rtol=1e-12, atol=1e-14)


@layer_test
def test_sequences_of_a_batch_are_independent():
    layer, rng = build(), np.random.default_rng(7)
    q, k, v = (rng.standard_normal(shape) for shape in ((3, 5, 3), (3, 4, 4), (3, 4, 2)))
    np.testing.assert_allclose(layer(q, k, v)[1], layer(q[1], k[1], v[1]), rtol=1e-12, atol=1e-14)


def test_initial_weights_are_in_their_bounds():
    layer = AdditiveAttention(400, 100, 900, rng=np.random.default_rng(0))
    for name, bound in {"W_query.weight": 1 / 20, "W_key.weight": 1 / 10, "v": 1 / 30}.items():
        array = layer.state_dict()[name]
        assert array.dtype == np.float32
        assert 0.98 * bound < array.max() <= bound
        assert -bound <= array.min() < -0.98 * bound


def test_invalid_arguments():
    with pytest.raises(ValueError, match="hidden_size is 0; it must be at least 1"):
        AdditiveAttention(3, 4, 0)
    layer = AdditiveAttention(3, 4, 5, dtype="float64")
    q, k, v = np.zeros((5, 3)), np.zeros((4, 4)), np.zeros((4, 2))
    with pytest.raises(ValueError, match="it must be a sequence of vectors"):
        layer(q[0], k, v)
    with pytest.raises(ValueError, match=r"the last axis of x is 4|it must be \(..., I\) with I = 3"):
        layer(k, k, v)
    with pytest.raises(ValueError, match=r"scores \(5, 4\), v \(3, 2\)"):
        layer(q, k, v[:3])
    with pytest.raises(TypeError, match="k is float32 but q is float64|weight is float64 but x is float32"):
        layer(q, k.astype(np.float32), v)

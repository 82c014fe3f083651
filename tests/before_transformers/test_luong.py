import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.before_transformers import AdditiveAttention, ConcatAttention, DotAttention, GeneralAttention
from npllm.core.gradient_check import check_layer_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes

NAMES = ["DotAttention", "GeneralAttention", "ConcatAttention"]
EACH = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.covers(name)) for name in NAMES])


def build(name, query_size=3, key_size=4):
    """A layer, and the size of its keys: for DotAttention that of the queries."""
    if name == "DotAttention":
        return implementation(name)(), query_size
    rng = np.random.default_rng(0)
    return implementation(name)(query_size, key_size, rng=rng, dtype="float64"), key_size


@EACH
@given(st.data(), dtypes, leading, sizes, sizes, st.tuples(sizes, sizes, sizes), st.booleans(), seeds)
def test_equals_pytorch(name, data, dtype, batch, T, S, all_sizes, masked, seed):
    query_size, key_size, value_size = all_sizes
    config = {"query_size": query_size, "key_size": key_size}
    if name == "DotAttention":
        key_size, config = query_size, {}
    if name == "ConcatAttention" and masked:
        config |= {"hidden_size": 1 + seed % 4}
    q = data.draw(arrays((*batch, T, query_size), dtype))
    k, v = (data.draw(arrays((*batch, S, size), dtype)) for size in (key_size, value_size))
    mask = np.random.default_rng(seed).random((*batch, S)) < 0.6 if masked else None
    check_layer(name, config, q, k, v, dtype=dtype, mask=mask)


@EACH
def test_finite_differences(name):
    layer, key_size = build(name)
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(shape) for shape in ((2, 3, 3), (2, 6, key_size), (2, 6, 2))]
    mask = np.arange(6) < np.array([[6], [4]])
    check_layer_gradients(layer, inputs, rng, lambda: layer.forward(*inputs, mask=mask))


@EACH
def test_weights_equal_plain_loops(name):
    layer, key_size = build(name)
    rng = np.random.default_rng(2)
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3), (4, key_size), (4, 2)))
    W, v_weight = (layer.state_dict().get(key) for key in ("W.weight", "v"))
    weights = layer.attention_weights(q, k, v)
    for t in range(2):
        scores = []
        for s in range(4):
            if name == "DotAttention":
                scores.append(sum(q[t] * k[s]))
            elif name == "GeneralAttention":
                scores.append(sum(q[t, i] * W[i, j] * k[s, j] for i in range(3) for j in range(4)))
            else:
                pair = np.concatenate([q[t], k[s]])
                scores.append(sum(v_weight[a] * np.tanh(sum(W[a] * pair)) for a in range(3)))
        np.testing.assert_allclose(weights[t], np.exp(scores) / sum(np.exp(scores)), rtol=1e-12)


def test_general_with_the_identity_equals_dot():
    general, dot, rng = build("GeneralAttention", 4, 4)[0], build("DotAttention")[0], np.random.default_rng(3)
    general.load_state_dict({"W.weight": np.eye(4)})
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 2)))
    np.testing.assert_array_equal(general(q, k, v), dot(q, k, v))


def test_concat_equals_additive_attention_with_the_same_weights():
    concat, rng = build("ConcatAttention")[0], np.random.default_rng(4)
    additive = AdditiveAttention(3, 4, 3, dtype="float64")
    state = additive.state_dict()
    both = np.concatenate([state["W_query.weight"], state["W_key.weight"]], axis=1)
    concat.load_state_dict({"W.weight": both, "v": state["v"]})
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3, 3), (2, 5, 4), (2, 5, 2)))
    np.testing.assert_allclose(concat(q, k, v), additive(q, k, v), rtol=1e-12, atol=1e-14)


def test_dot_equals_scaled_dot_product_attention_with_scale_1():
    dot, rng = build("DotAttention")[0], np.random.default_rng(5)
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 2)))
    mask = np.arange(5) < np.array([[5], [3]])
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], scale=1.0)
    np.testing.assert_allclose(dot(q, k, v, mask=mask), expected, rtol=1e-12, atol=1e-14)


@EACH
def test_a_single_key_gets_all_the_weight_and_masked_keys_none(name):
    layer, key_size = build(name)
    rng = np.random.default_rng(6)
    q, k, v = (rng.standard_normal(shape) for shape in ((5, 3), (4, key_size), (4, 2)))
    np.testing.assert_array_equal(layer.attention_weights(q, k[:1], v[:1]), np.ones((5, 1)))
    mask = np.array([True, False, True, False])
    weights = layer.attention_weights(q, k, v, mask=mask)
    assert not weights[:, ~mask].any()
    np.testing.assert_allclose(weights[:, mask], layer.attention_weights(q, k[mask], v[mask]), rtol=1e-12)


@EACH
@given(order=st.permutations(range(4)))
def test_permuted_keys_get_permuted_weights(name, order):
    layer, key_size = build(name)
    rng = np.random.default_rng(7)
    q, k, v = (rng.standard_normal(shape) for shape in ((5, 3), (4, key_size), (4, 2)))
    weights = layer.attention_weights(q, k, v)
    np.testing.assert_allclose(layer.attention_weights(q, k[order], v[order]), weights[:, order], rtol=1e-12)


@EACH
def test_sequences_of_a_batch_are_independent(name):
    layer, key_size = build(name)
    rng = np.random.default_rng(8)
    q, k, v = (rng.standard_normal(shape) for shape in ((3, 5, 3), (3, 4, key_size), (3, 4, 2)))
    np.testing.assert_allclose(layer(q, k, v)[1], layer(q[1], k[1], v[1]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES[1:])
def test_without_init_all_weights_are_zero(name):
    layer = implementation(name)(3, 4, dtype="float64", init=False)
    assert not any(array.any() for array in layer.state_dict().values())
    layer.init_weights(np.random.default_rng(0))
    for key, array in build(name)[0].state_dict().items():
        np.testing.assert_array_equal(layer.state_dict()[key], array)


def test_initial_weights_are_in_their_bounds():
    general, concat = (kind(400, 500, rng=np.random.default_rng(0)) for kind in (GeneralAttention, ConcatAttention))
    for array, bound in (
        (general.W.weight.data, 500**-0.5), (concat.W.weight.data, 900**-0.5), (concat.v.data, 400**-0.5),
    ):  # fmt: skip
        assert 0.98 * bound < array.max() <= bound
        assert -bound <= array.min() < -0.98 * bound


def test_invalid_arguments():
    with pytest.raises(ValueError, match="key_size is 0; it must be at least 1"):
        GeneralAttention(3, 0)
    with pytest.raises(ValueError, match="hidden_size is 0; it must be at least 1"):
        ConcatAttention(3, 4, 0)
    layer = DotAttention()
    with pytest.raises(
        ValueError, match=r"q has shape \(2, 5, 3\) and k \(2, 4, 2\); the last axis, D, must be the same"
    ):
        layer(np.zeros((2, 5, 3)), np.zeros((2, 4, 2)), np.zeros((2, 4, 2)))
    with pytest.raises(
        ValueError, match=r"scores \(4, 5, 4\), v \(2, 4, 2\): they must be .* equal leading dimensions"
    ):
        layer(np.zeros((4, 5, 3)), np.zeros((2, 4, 3)), np.zeros((2, 4, 2)))

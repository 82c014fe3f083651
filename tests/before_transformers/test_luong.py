import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.before_transformers import AdditiveAttention, LuongAttention
from npllm.core.gradient_check import check_layer_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes

pytestmark = pytest.mark.covers("LuongAttention")
KINDS = ["dot", "general", "concat"]


def built(kind, query_size=3, key_size=4):
    key_size = query_size if kind == "dot" else key_size
    rng = np.random.default_rng(0)
    return implementation("LuongAttention")(query_size, key_size, kind, rng=rng, dtype="float64"), key_size


@pytest.mark.parametrize("kind", KINDS)
@given(st.data(), dtypes, leading, sizes, sizes, st.tuples(sizes, sizes, sizes), st.booleans(), seeds)
def test_equals_pytorch(kind, data, dtype, batch, T, S, widths, masked, seed):
    query_size, key_size, value_size = widths
    key_size = query_size if kind == "dot" else key_size
    q = data.draw(arrays((*batch, T, query_size), dtype))
    k, v = (data.draw(arrays((*batch, S, width), dtype)) for width in (key_size, value_size))
    mask = np.random.default_rng(seed).random((*batch, S)) < 0.6 if masked else None
    config = {"query_size": query_size, "key_size": key_size, "kind": kind}
    config |= {"hidden_size": 1 + seed % 4} if masked else {}
    check_layer("LuongAttention", config, q, k, v, dtype=dtype, mask=mask)


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences(kind):
    layer, key_size = built(kind)
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(shape) for shape in ((2, 3, 3), (2, 6, key_size), (2, 6, 2))]
    mask = np.arange(6) < np.array([[6], [4]])
    check_layer_gradients(layer, inputs, rng, lambda: layer.forward(*inputs, mask))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_by_plain_loops(kind):
    layer, key_size = built(kind)
    rng = np.random.default_rng(2)
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3), (4, key_size), (4, 2)))
    W, reader = (layer.state_dict().get(name) for name in ("score.W.weight", "score.v"))
    weights = layer.attention_weights(q, k, v)
    for t in range(2):
        scores = []
        for s in range(4):
            if kind == "dot":
                scores.append(sum(q[t] * k[s]))
            elif kind == "general":
                scores.append(sum(q[t, i] * W[i, j] * k[s, j] for i in range(3) for j in range(4)))
            else:
                pair = np.concatenate([q[t], k[s]])
                scores.append(sum(reader[a] * np.tanh(sum(W[a] * pair)) for a in range(3)))
        np.testing.assert_allclose(weights[t], np.exp(scores) / sum(np.exp(scores)), rtol=1e-12)


def test_general_with_the_identity_is_dot():
    general, dot, rng = built("general", 4, 4)[0], built("dot", 4)[0], np.random.default_rng(3)
    general.load_state_dict({"score.W.weight": np.eye(4)})
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 2)))
    np.testing.assert_array_equal(general(q, k, v), dot(q, k, v))


def test_concat_is_additive_attention_with_its_matrices_side_by_side():
    concat, rng = built("concat")[0], np.random.default_rng(4)
    additive = AdditiveAttention(3, 4, 3, dtype="float64")
    state = additive.state_dict()
    both = np.concatenate([state["W_query.weight"], state["W_key.weight"]], axis=1)
    concat.load_state_dict({"score.W.weight": both, "score.v": state["v"]})
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3, 3), (2, 5, 4), (2, 5, 2)))
    np.testing.assert_allclose(concat(q, k, v), additive(q, k, v), rtol=1e-12, atol=1e-14)


def test_dot_is_the_attention_of_the_transformer_without_the_scale():
    dot, rng = built("dot", 4)[0], np.random.default_rng(5)
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 2)))
    mask = np.arange(5) < np.array([[5], [3]])
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], scale=1.0)
    np.testing.assert_allclose(dot(q, k, v, mask), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_key_gets_all_the_weight_and_masked_keys_none(kind):
    layer, key_size = built(kind)
    rng = np.random.default_rng(6)
    q, k, v = (rng.standard_normal(shape) for shape in ((5, 3), (4, key_size), (4, 2)))
    np.testing.assert_array_equal(layer.attention_weights(q, k[:1], v[:1]), np.ones((5, 1)))
    mask = np.array([True, False, True, False])
    weights = layer.attention_weights(q, k, v, mask)
    assert not weights[:, ~mask].any()
    np.testing.assert_allclose(weights[:, mask], layer.attention_weights(q, k[mask], v[mask]), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(order=st.permutations(range(4)))
def test_keys_in_another_order_get_the_same_weights_in_that_order(kind, order):
    layer, key_size = built(kind)
    rng = np.random.default_rng(7)
    q, k, v = (rng.standard_normal(shape) for shape in ((5, 3), (4, key_size), (4, 2)))
    weights = layer.attention_weights(q, k, v)
    np.testing.assert_allclose(layer.attention_weights(q, k[order], v[order]), weights[:, order], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_sequence_of_a_batch_knows_of_another(kind):
    layer, key_size = built(kind)
    rng = np.random.default_rng(8)
    q, k, v = (rng.standard_normal(shape) for shape in ((3, 5, 3), (3, 4, key_size), (3, 4, 2)))
    np.testing.assert_allclose(layer(q, k, v)[1], layer(q[1], k[1], v[1]), rtol=1e-12, atol=1e-14)


def test_bad_arguments():
    with pytest.raises(ValueError, match="kind is 'sum'; it must be one of dot, general, concat"):
        LuongAttention(3, 3, "sum")
    with pytest.raises(ValueError, match="key_size is 4; it must be 3, the query_size, for a product of the two"):
        LuongAttention(3, 4, "dot")
    with pytest.raises(ValueError, match="hidden_size is 0; it must be at least 1"):
        LuongAttention(3, 4, "concat", 0)
    layer = LuongAttention(3, 3, "dot", dtype="float64")
    with pytest.raises(ValueError, match="alike but for T, S"):
        layer(np.zeros((2, 5, 3)), np.zeros((4, 3)), np.zeros((4, 2)))

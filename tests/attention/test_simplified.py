import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import (
    attention_scores,
    attention_scores_by_loops,
    attention_scores_of_query,
    context_of_query,
    context_vectors,
)
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes


@given(st.data(), dtypes, sizes, sizes)
def test_loops_and_matrix_products_agree(data, dtype, T, C):
    inputs = data.draw(arrays((T, C), dtype))
    scores = attention_scores(inputs)
    assert scores.dtype == dtype
    np.testing.assert_allclose(attention_scores_by_loops(inputs), scores, rtol=1e-4, atol=1e-5)
    weights = F.softmax(scores)
    contexts = context_vectors(weights, inputs)
    for t in range(T):
        np.testing.assert_allclose(attention_scores_of_query(inputs[t], inputs), scores[t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(context_of_query(weights[t], inputs), contexts[t], rtol=1e-4, atol=1e-5)
    layer = implementation("SimplifiedSelfAttention")()
    np.testing.assert_allclose(layer(inputs), contexts, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.attention_weights(inputs), weights, rtol=1e-4, atol=1e-5)


@pytest.mark.covers("SimplifiedSelfAttention")
@given(st.data(), dtypes, leading, sizes, sizes)
def test_equals_pytorch(data, dtype, batch, T, C):
    x = data.draw(arrays((*batch, T, C), dtype))
    check_layer("SimplifiedSelfAttention", {}, x, dtype=dtype, loosen=4.0)  # scores are not scaled down here


@pytest.mark.covers("SimplifiedSelfAttention")
@given(st.data(), sizes, sizes)
def test_permutation_equivariance_without_positions(data, T, C):
    x = data.draw(arrays((T, C), np.dtype(np.float64)))
    order = np.random.default_rng(T).permutation(T)
    layer = implementation("SimplifiedSelfAttention")()
    np.testing.assert_allclose(layer(x[order]), layer(x)[order], rtol=1e-9, atol=1e-12)


def test_weights_must_have_one_entry_for_each_input():
    with pytest.raises(ValueError, match=r"weights has shape \(3,\); it must be \(S\) with S = 2"):
        context_of_query(np.ones(3), np.ones((2, 4)))

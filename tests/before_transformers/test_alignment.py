import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_function_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes


@pytest.mark.covers("additive_scores")
@given(st.data(), dtypes, leading, sizes, sizes, sizes, st.sampled_from([1.0, 100.0]))
def test_scores_equal_pytorch(data, dtype, batch, T, S, A, scale):
    q, k = (data.draw(arrays((*batch, length, A), dtype, scale)) for length in (T, S))
    check_function("additive_scores", q, k, data.draw(arrays((A,), dtype)))


@pytest.mark.covers("weighted_average")
@given(st.data(), dtypes, leading, sizes, sizes, sizes, st.sampled_from([1.0, 100.0]), st.booleans(), seeds)
def test_average_equals_pytorch(data, dtype, batch, T, S, E, scale, masked, seed):
    scores, v = data.draw(arrays((*batch, T, S), dtype, scale)), data.draw(arrays((*batch, S, E), dtype))
    mask = np.random.default_rng(seed).random((*batch, S)) < 0.6 if masked else None
    check_function("weighted_average", scores, v, mask)


@pytest.mark.covers("additive_scores", "weighted_average")
def test_finite_differences():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 4, 5)), rng.standard_normal(5)
    forms = [implementation(f"additive_scores{form}") for form in ("_forward", "_backward")]
    check_function_gradients(*forms, [q, k, v], rng)
    scores, values = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 4, 6))
    forms = [implementation(f"weighted_average{form}") for form in ("_forward", "_backward")]
    check_function_gradients(*forms, [scores, values], rng, mask=np.array([[True] * 4, [True, False, True, False]]))


@pytest.mark.covers("additive_scores")
@given(st.data(), sizes, sizes, sizes)
def test_scores_by_plain_loops(data, T, S, A):
    q, k, v = (data.draw(arrays(shape, np.dtype(np.float64))) for shape in ((T, A), (S, A), (A,)))
    scores = implementation("additive_scores")(q, k, v)
    for t in range(T):
        for s in range(S):
            expected = sum(v[a] * math.tanh(q[t, a] + k[s, a]) for a in range(A))
            assert scores[t, s] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.covers("weighted_average")
def test_the_average_of_products_is_pytorchs_attention():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 4, 5)), rng.standard_normal((2, 4, 6))
    mask = np.array([[True, True, False, True], [False, True, True, True]])
    ours = implementation("weighted_average")(q @ k.mT, v, mask)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.from_numpy, (q, k, v)), attn_mask=torch.from_numpy(mask[:, None]), scale=1.0
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-14)


def test_who_may_look_at_nothing_takes_nothing():
    y, cache = F.weighted_average_forward(np.zeros((2, 3)), np.ones((3, 4)), np.zeros(3, bool))
    assert not y.any()
    assert not any(gradient.any() for gradient in F.weighted_average_backward(np.ones((2, 4)), cache))


def test_bad_arguments():
    q, k, v = np.zeros((2, 3, 5)), np.zeros((2, 4, 5)), np.zeros(5)
    with pytest.raises(ValueError, match="with the same leading dimensions"):
        F.additive_scores(q, k[0], v)
    with pytest.raises(ValueError, match="the width of k is 4; it must be 5, the width of v"):
        F.additive_scores(q, k[..., :4], v)
    with pytest.raises(ValueError, match="with the same leading dimensions"):
        F.weighted_average(np.zeros((2, 3, 5)), np.zeros((2, 4, 6)))
    with pytest.raises(TypeError, match="mask has dtype int64; it must be boolean"):
        F.weighted_average(np.zeros((3, 4)), np.zeros((4, 6)), np.ones(4, int))
    with pytest.raises(ValueError, match=r"the shape of mask is \(3, 4\); it must be \(4,\)"):
        F.weighted_average(np.zeros((3, 4)), np.zeros((4, 6)), np.ones((3, 4), bool))

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_function_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes


@pytest.mark.covers("weighted_average")
@given(st.data(), dtypes, leading, sizes, sizes, sizes, st.sampled_from([1.0, 100.0]), st.booleans(), seeds)
def test_equals_pytorch(data, dtype, batch, T, S, E, scale, masked, seed):
    scores, v = data.draw(arrays((*batch, T, S), dtype, scale)), data.draw(arrays((*batch, S, E), dtype))
    mask = np.random.default_rng(seed).random((*batch, S)) < 0.6 if masked else None
    check_function("weighted_average", scores, v, mask)


@pytest.mark.covers("weighted_average")
def test_finite_differences():
    rng = np.random.default_rng(0)
    scores, values = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 4, 6))
    forms = [implementation(f"weighted_average{form}") for form in ("_forward", "_backward")]
    check_function_gradients(*forms, [scores, values], rng, mask=np.array([[True] * 4, [True, False, True, False]]))


@pytest.mark.covers("weighted_average")
def test_with_dot_products_it_equals_attention_in_pytorch():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 4, 5)), rng.standard_normal((2, 4, 6))
    mask = np.array([[True, True, False, True], [False, True, True, True]])
    ours = implementation("weighted_average")(q @ k.mT, v, mask)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.from_numpy, (q, k, v)), attn_mask=torch.from_numpy(mask[:, None]), scale=1.0
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-14)


def test_a_query_without_any_key_gets_zeros_and_no_gradient():
    rng = np.random.default_rng(0)
    y, cache = F.weighted_average_forward(np.zeros((2, 3)), np.ones((3, 4)), np.zeros(3, bool))
    assert not y.any()
    assert not any(gradient.any() for gradient in F.weighted_average_backward(rng.standard_normal((2, 4)), cache))


def test_invalid_arguments():
    with pytest.raises(ValueError, match="with equal leading dimensions"):
        F.weighted_average(np.zeros((2, 3, 5)), np.zeros((2, 4, 6)))
    with pytest.raises(TypeError, match="mask has dtype int64; it must be boolean"):
        F.weighted_average(np.zeros((3, 4)), np.zeros((4, 6)), np.ones(4, int))
    with pytest.raises(ValueError, match=r"mask has shape \(3, 4\); it must be \(4,\)"):
        F.weighted_average(np.zeros((3, 4)), np.zeros((4, 6)), np.ones((3, 4), bool))

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, integers, leading, sizes

pytestmark = pytest.mark.covers("negative_sampling")


@given(st.data(), dtypes, leading, sizes, sizes, st.integers(0, 4), st.sampled_from([1.0, 100.0]))
def test_equals_pytorch(data, dtype, batch, V, C, K, scale):
    x, weight = data.draw(arrays((*batch, C), dtype, scale)), data.draw(arrays((V, C), dtype))
    targets, negatives = data.draw(integers(batch, V)), data.draw(integers((*batch, K), V))
    check_function("negative_sampling", x, weight, targets.reshape(batch), negatives)


def test_finite_differences():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    targets, negatives = rng.integers(0, 5, 4), rng.integers(0, 5, (4, 2))
    forward = implementation("negative_sampling_forward")
    gradients = implementation("negative_sampling_backward")(1.7, forward(x, weight, targets, negatives)[1])
    check_gradients(lambda x, w: 1.7 * forward(x, w, targets, negatives)[0], [x, weight], gradients, rng)


@given(st.data(), sizes, sizes, st.integers(1, 4))
def test_equals_plain_loops(data, V, C, K):
    x, weight = (data.draw(arrays((n, C), np.dtype(np.float64))) for n in (3, V))
    targets, negatives = data.draw(integers((3,), V)), data.draw(integers((3, K), V))
    total = 0.0
    for i in range(3):
        total += math.log(1 + math.exp(-sum(weight[targets[i]] * x[i])))
        for k in range(K):
            total += math.log(1 + math.exp(sum(weight[negatives[i, k]] * x[i])))
    assert implementation("negative_sampling")(x, weight, targets, negatives) == pytest.approx(total / 3)


def test_a_gradient_step_raises_the_targets_score_and_lowers_the_negative_samples():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(6), rng.standard_normal((3, 6))
    _, cache = F.negative_sampling_forward(x, weight, np.array(1), np.array([2]))
    _, dweight = F.negative_sampling_backward(1.0, cache)
    before, after = weight @ x, (weight - 0.1 * dweight) @ x
    assert after[1] > before[1]
    assert after[2] < before[2]
    assert after[0] == before[0]


def test_with_scores_of_zero_each_decision_costs_ln_2():
    x, weight = np.zeros((2, 3)), np.ones((4, 3))
    loss = F.negative_sampling(x, weight, np.array([0, 1]), np.array([[1, 2, 3], [0, 0, 0]]))
    assert loss == pytest.approx(4 * math.log(2))


def test_invalid_arguments():
    x, weight, one = np.zeros((2, 3)), np.zeros((4, 3)), np.array([[0], [0]])
    with pytest.raises(IndexError, match=r"targets\[1\] is 4; it must be in \[0, 4\)"):
        F.negative_sampling(x, weight, np.array([0, 4]), one)
    with pytest.raises(IndexError, match=r"negatives\[0, 0\] is -1"):
        F.negative_sampling(x, weight, np.array([0, 0]), one - 1)
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\); it must be \(..., C\) with C = 5"):
        F.negative_sampling(x, np.zeros((4, 5)), np.array([0, 0]), one)
    with pytest.raises(ValueError, match=r"targets has shape \(1,\); it must be \(2,\)"):
        F.negative_sampling(x, weight, np.array([0]), one)
    with pytest.raises(ValueError, match=r"negatives has shape \(1, 1\)"):
        F.negative_sampling(x, weight, np.array([0, 0]), one[:1])
    with pytest.raises(ValueError, match=r"weight has shape \(3,\); it must be \(V, C\)"):
        F.negative_sampling(x, np.zeros(3), np.array([0, 0]), one)
    with pytest.raises(ValueError, match="targets is empty"):
        F.negative_sampling(x[:0], weight, np.array([], int), np.zeros((0, 2), int))

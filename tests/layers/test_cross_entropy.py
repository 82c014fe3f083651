import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_function_gradients, check_gradients
from npllm.layers.cross_entropy import negative_log_likelihood_backward, negative_log_likelihood_forward
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading


@st.composite
def losses(draw):
    """Logits, targets (some of them ignored), and every option."""
    dtype, batch, classes = draw(dtypes), draw(leading), draw(st.integers(1, 9))
    logits = draw(arrays((*batch, classes), dtype, draw(st.sampled_from([1.0, 50.0]))))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    ignore_index = draw(st.sampled_from([-100, -1, 0]))
    targets = rng.integers(0, classes, batch)
    targets = np.where(rng.random(batch) < draw(st.sampled_from([0.0, 0.5])), ignore_index, targets)
    weight = np.abs(draw(arrays((classes,), dtype))) + dtype.type(0.1) if draw(st.booleans()) else None
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    if reduction == "mean" and (targets == ignore_index).all():
        reduction = "sum"
    smoothing = draw(st.sampled_from([0.0, 0.1, 1.0]))
    return logits, targets, weight, ignore_index, reduction, smoothing


@pytest.mark.covers("cross_entropy")
class TestCrossEntropy:
    @given(losses())
    def test_equals_pytorch(self, drawn):
        # losses up to a few hundred are summed over up to nine positions
        check_function("cross_entropy", *drawn, loosen=4.0)

    def test_plain_loop(self):
        rng = np.random.default_rng(0)
        logits, targets = rng.standard_normal((4, 5)), rng.integers(0, 5, 4)
        expected = np.mean(
            [-math.log(math.exp(row[t]) / sum(math.exp(a) for a in row)) for row, t in zip(logits, targets)]
        )
        assert implementation("cross_entropy")(logits, targets) == pytest.approx(expected, rel=1e-13)

    def test_the_loss_of_uniform_probabilities_is_ln_v(self):
        loss = implementation("cross_entropy")(np.zeros((2, 3, 50257), np.float32), np.ones((2, 3), int))
        assert loss == pytest.approx(math.log(50257), rel=1e-6)
        assert loss.dtype == np.float32

    def test_a_certain_prediction_has_loss_zero_and_a_wrong_one_a_finite_loss(self):
        logits = np.array([[1000.0, -1000.0]], np.float32)
        assert implementation("cross_entropy")(logits, np.array([0])) == 0
        assert implementation("cross_entropy")(logits, np.array([1])) == 2000

    def test_the_gradient_is_the_probabilities_minus_one_hot(self):
        logits = np.random.default_rng(0).standard_normal((3, 4))
        targets = np.array([2, 0, 3])
        _, cache = F.cross_entropy_forward(logits, targets, reduction="sum")
        expected = F.softmax(logits) - F.one_hot(targets, 4, np.float64)
        np.testing.assert_allclose(F.cross_entropy_backward(1.0, cache), expected, atol=1e-15)

    def test_a_class_of_probability_zero_does_not_matter_where_the_target_is_ignored(self):
        logits = np.array([[-np.inf, 0.0], [0.0, 0.0]])
        loss, cache = F.cross_entropy_forward(logits, np.array([-100, 1]))
        assert loss == pytest.approx(math.log(2))
        np.testing.assert_array_equal(F.cross_entropy_backward(1.0, cache)[0], [0, 0])


class TestNegativeLogLikelihood:
    def test_equals_the_cross_entropy_of_each_position(self):
        rng = np.random.default_rng(0)
        logits, targets = rng.standard_normal((2, 3, 5)), rng.integers(0, 5, (2, 3))
        losses, cache = negative_log_likelihood_forward(logits, targets)
        expected, expected_cache = F.cross_entropy_forward(logits, targets, reduction="none")
        np.testing.assert_array_equal(losses, expected)
        dy = rng.standard_normal(losses.shape)
        dlogits = negative_log_likelihood_backward(dy, cache)
        np.testing.assert_array_equal(dlogits, F.cross_entropy_backward(dy, expected_cache))

    def test_finite_differences(self):
        rng = np.random.default_rng(0)
        logits, targets = rng.standard_normal((2, 3, 5)), rng.integers(0, 5, (2, 3))
        check_function_gradients(
            lambda x: negative_log_likelihood_forward(x, targets), negative_log_likelihood_backward, [logits], rng
        )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_finite_differences(reduction, label_smoothing):
    rng = np.random.default_rng(0)
    logits, weight = rng.standard_normal((2, 3, 5)), rng.random(5) + 0.1
    targets = np.array([[0, 4, -100], [2, 2, 1]])
    options = {"weight": weight, "reduction": reduction, "label_smoothing": label_smoothing}
    y, cache = F.cross_entropy_forward(logits, targets, **options)
    dy = rng.standard_normal(np.shape(y))
    check_gradients(
        lambda x: (F.cross_entropy(x, targets, **options) * dy).sum(),
        [logits],
        [F.cross_entropy_backward(dy, cache)],
        rng,
    )


def test_invalid_arguments():
    logits = np.zeros((2, 3))
    with pytest.raises(IndexError, match=r"targets\[1\] is 3; it must be in \[0, 3\)"):
        F.cross_entropy(logits, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"targets has shape \(3,\); it must be \(2,\)"):
        F.cross_entropy(logits, np.array([0, 1, 2]))
    with pytest.raises(TypeError, match="targets has dtype float64"):
        F.cross_entropy(logits, np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="targets has no position that counts"):
        F.cross_entropy(logits, np.array([-100, -100]))
    with pytest.raises(ValueError, match="reduction is 'average'"):
        F.cross_entropy(logits, np.array([0, 1]), reduction="average")
    with pytest.raises(ValueError, match="label_smoothing is 1.5"):
        F.cross_entropy(logits, np.array([0, 1]), label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"weight has shape \(2,\); it must be \(V\) with V = 3"):
        F.cross_entropy(logits, np.array([0, 1]), np.ones(2))


def test_an_ignored_position_has_no_gradient_whatever_its_logits_are():
    logits = np.array([[1.0, 2.0, 3.0], [np.inf, -np.inf, np.nan]])
    loss, cache = F.cross_entropy_forward(logits, np.array([2, -100]), label_smoothing=0.1)
    dlogits = F.cross_entropy_backward(1.0, cache)
    assert np.isfinite(loss)
    np.testing.assert_array_equal(dlogits[1], 0)
    np.testing.assert_allclose(dlogits[0].sum(), 0, atol=1e-15)

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_gradients
from npllm.core.module import Parameter
from npllm.layers import linear_cross_entropy as fused
from npllm.layers.linear_cross_entropy import (
    add_linear_cross_entropy_gradients,
    linear_cross_entropy,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
)
from tests.equivalence import check_function
from tests.layers.test_cross_entropy import losses
from tests.strategies import arrays, sizes


@pytest.fixture(autouse=True, params=[(2**24, 2**16), (20, 7)])
def block_sizes(request, monkeypatch):
    """All positions in one block, and blocks of a few positions."""
    monkeypatch.setattr(fused, "BLOCK_SIZE", request.param[0])
    monkeypatch.setattr(fused, "ROWS_SIZE", request.param[1])


def plain(x, weight, targets, options, scaling=1.0, softcap=None):
    """The loss and a function from dy to the gradients, by the functions of linear.py and cross_entropy.py."""
    logits, linear = F.linear_forward(x, weight)
    capped, cap = logits / scaling, None
    if softcap is not None:
        capped, cap = F.softcap_forward(capped, softcap)
    y, cache = F.cross_entropy_forward(capped, targets, *options)

    def backward(dy):
        dlogits = F.cross_entropy_backward(dy, cache)
        if softcap is not None:
            dlogits = F.softcap_backward(dlogits, cap)
        return F.linear_backward(dlogits / scaling, linear)

    return y, backward


@given(st.data(), losses(), sizes, st.sampled_from([1.0, 4.0]), st.sampled_from([None, 3.0]))
def test_equals_the_plain_form_in_value_gradients_and_dtype(data, drawn, channels, scaling, softcap):
    logits, targets, *options = drawn
    x = data.draw(arrays((*targets.shape, channels), logits.dtype))
    weight = data.draw(arrays((logits.shape[-1], channels), logits.dtype))
    expected, backward = plain(x, weight, targets, options, scaling, softcap)
    head = {"logits_scaling": scaling, "logits_softcap": softcap}
    y, cache = linear_cross_entropy_forward(x, weight, targets, *options, **head)
    tolerance = {"rtol": 2e-5, "atol": 2e-5} if x.dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(y, expected, **tolerance)
    assert y.dtype == x.dtype
    assert np.shape(y) == np.shape(expected)
    np.testing.assert_array_equal(linear_cross_entropy(x, weight, targets, *options, **head), y)
    dy = np.random.default_rng(0).standard_normal(np.shape(y)).astype(x.dtype)
    gradients, expected_gradients = linear_cross_entropy_backward(dy, cache), backward(dy)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert ours.dtype == x.dtype
        np.testing.assert_allclose(ours, theirs, **tolerance)
    if options[2] != "none":
        parameter = Parameter(weight)
        loss, dx = add_linear_cross_entropy_gradients(parameter, x, targets, float(dy), *options, **head)
        np.testing.assert_array_equal(loss, y)
        np.testing.assert_allclose(dx, gradients[0], **tolerance)
        if targets.size:
            np.testing.assert_allclose(parameter.grad, gradients[1], **tolerance)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_equals_pytorch(label_smoothing):
    rng = np.random.default_rng(0)
    x, weight, targets = rng.standard_normal((3, 5, 8)), rng.standard_normal((11, 8)), rng.integers(0, 11, (3, 5))
    targets[0, ::2] = -100
    class_weight = rng.random(11) + 0.1
    x_t, weight_t = (torch.from_numpy(array).requires_grad_() for array in (x, weight))
    loss = torch.nn.functional.cross_entropy(
        (x_t @ weight_t.T).flatten(0, 1), torch.from_numpy(targets).flatten(), torch.from_numpy(class_weight),
        label_smoothing=label_smoothing,
    )  # fmt: skip
    loss.backward()
    y, cache = linear_cross_entropy_forward(x, weight, targets, class_weight, label_smoothing=label_smoothing)
    dx, dweight = linear_cross_entropy_backward(1.0, cache)
    assert y == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(dx, x_t.grad.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dweight, weight_t.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_finite_differences(reduction):
    rng = np.random.default_rng(0)
    x, weight, targets = (
        rng.standard_normal((2, 3, 4)),
        rng.standard_normal((5, 4)),
        np.array([[0, 4, -100], [2, 2, 1]]),
    )
    options = {"reduction": reduction, "label_smoothing": 0.2, "logits_scaling": 0.5, "logits_softcap": 3.0}
    y, cache = linear_cross_entropy_forward(x, weight, targets, **options)
    dy = rng.standard_normal(np.shape(y))
    gradients = linear_cross_entropy_backward(dy, cache)
    check_gradients(
        lambda *_: (linear_cross_entropy(x, weight, targets, **options) * dy).sum(), [x, weight], gradients, rng
    )


def test_the_gradient_is_added_to_that_of_the_head_and_nothing_else_is_written_to():
    rng = np.random.default_rng(0)
    x, weight, targets = rng.standard_normal((7, 4)), rng.standard_normal((5, 4)), rng.integers(0, 5, 7)
    for array in (x, weight, targets):
        array.flags.writeable = False
    head = Parameter(weight)
    head.grad = np.ones_like(weight)
    _, dx = add_linear_cross_entropy_gradients(head, x, targets, 2.0)
    _, cache = linear_cross_entropy_forward(x, weight, targets)
    expected_dx, dweight = linear_cross_entropy_backward(2.0, cache)
    np.testing.assert_allclose(head.grad, 1 + dweight, rtol=1e-12)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_at_the_edge_equals_the_plain_form(value):
    x = np.array([[1.0, 2.0], [value, 0.5], [3.0, 1.0]])
    weight, targets = np.random.default_rng(0).standard_normal((4, 2)), np.array([0, -100, 3])
    for counted in (False, True):
        targets[1] = 2 if counted else -100
        y, cache = linear_cross_entropy_forward(x, weight, targets)
        expected, backward = plain(x, weight, targets, ())
        np.testing.assert_allclose(y, expected)
        for ours, theirs in zip(linear_cross_entropy_backward(1.0, cache), backward(1.0)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_invalid_arguments():
    x, weight = np.zeros((2, 3)), np.zeros((5, 3))
    with pytest.raises(IndexError, match=r"targets\[1\] is 5; it must be in \[0, 5\)"):
        linear_cross_entropy(x, weight, np.array([0, 5]))
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\); it must be \(..., C\) with C = 4"):
        linear_cross_entropy(x, np.zeros((5, 4)), np.array([0, 1]))
    with pytest.raises(ValueError, match="targets has no position that counts"):
        linear_cross_entropy(x, weight, np.array([-100, -100]))
    with pytest.raises(ValueError, match='reduction is "none"'):
        add_linear_cross_entropy_gradients(Parameter(weight), x, np.array([0, 1]), reduction="none")
    with pytest.raises(ValueError, match=r"class_weight has shape \(4,\); it must be \(V\) with V = 5"):
        linear_cross_entropy(x, weight, np.array([0, 1]), np.ones(4))
    with pytest.raises(ValueError, match="logits_scaling is 0"):
        linear_cross_entropy(x, weight, np.array([0, 1]), logits_scaling=0)
    for cap in (0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="logits_softcap is .*; it must be greater than 0 and finite in float64"):
            linear_cross_entropy(x, weight, np.array([0, 1]), logits_softcap=cap)


@pytest.mark.covers("linear_cross_entropy")
class TestHarness:
    @given(st.data(), losses(), sizes, st.sampled_from([1.0, -0.5, 4.0]), st.sampled_from([None, 3.0]))
    def test_equals_pytorch(self, data, drawn, channels, scaling, softcap):
        logits, targets, *options = drawn
        x = data.draw(arrays((*targets.shape, channels), logits.dtype))
        weight = data.draw(arrays((logits.shape[-1], channels), logits.dtype))
        # sums of products of up to nine channels, then losses of up to a hundred over up to nine positions
        check_function(
            "linear_cross_entropy", x, weight, targets, *options, logits_scaling=scaling, logits_softcap=softcap,
            loosen=10.0,
        )  # fmt: skip

"""check_function must find every kind of error: each test gives it a broken softmax or linear."""

import numpy as np
import pytest

from npllm import functional as F
from tests.equivalence import check_function

X = np.random.default_rng(0).standard_normal((3, 4, 5))


def test_a_correct_implementation_passes(candidate):
    candidate.softmax = lambda x, axis=-1: np.exp(x) / np.exp(x).sum(axis, keepdims=True)
    check_function("softmax", X)


def test_a_wrong_value(candidate):
    candidate.softmax = lambda x, axis=-1: F.softmax(x, axis=0)
    with pytest.raises(AssertionError, match="output: largest difference"):
        check_function("softmax", X)


def test_a_wrong_gradient(candidate):
    candidate.softmax_backward = lambda dy, cache: cache.y * dy
    with pytest.raises(AssertionError, match="gradient of x: largest difference"):
        check_function("softmax", X)


def test_a_zero_gradient(candidate):
    candidate.softmax_backward = lambda dy, cache: np.zeros_like(dy)
    with pytest.raises(AssertionError, match="gradient of x"):
        check_function("softmax", X)


def test_a_forward_that_differs_from_the_value(candidate):
    candidate.softmax_forward = lambda x, axis=-1: (F.softmax(x), None)
    check_function("softmax", X)
    candidate.softmax, candidate.softmax_backward = F.softmax, F.softmax_backward
    candidate.softmax_forward = lambda x, axis=-1: (F.softmax(x) * 1.0000001, F.softmax_forward(x)[1])
    with pytest.raises(AssertionError, match="softmax_forward must give the value"):
        check_function("softmax", X)


def test_another_dtype(candidate):
    candidate.softmax = lambda x, axis=-1: F.softmax(x.astype(np.float64))
    with pytest.raises(AssertionError, match="output is float64; it must be float32"):
        check_function("softmax", X.astype(np.float32))


def test_writing_into_the_input(candidate):
    def softmax(x, axis=-1):
        x -= x.max(axis=axis, keepdims=True)
        return F.softmax(x)

    candidate.softmax = softmax
    with pytest.raises(ValueError, match="read-only"):
        check_function("softmax", X)


def test_writing_into_the_cache(candidate):
    def backward(dy, cache):
        cache.y *= 1
        return F.softmax_backward(dy, cache)

    candidate.softmax_backward = backward
    with pytest.raises(ValueError, match="read-only"):
        check_function("softmax", X)


def test_a_missing_gradient(candidate):
    candidate.linear_backward = lambda dy, cache: F.linear_backward(dy, cache)[:2]
    with pytest.raises(AssertionError, match="2 gradients for"):
        check_function("linear", np.ones((2, 3)), np.ones((4, 3)), np.ones(4))


def test_a_single_gradient_in_a_tuple(candidate):
    candidate.softmax_backward = lambda dy, cache: (F.softmax_backward(dy, cache),)
    with pytest.raises(AssertionError, match="must return a single gradient as an array"):
        check_function("softmax", X)

"""Filters of logits: their properties, and transformers' filters."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from npllm import functional as F
from npllm.generation import exclude_ids, min_p_filter, top_k_filter, top_p_filter
from tests.strategies import arrays, dtypes

sizes = st.integers(1, 12)


@given(st.data(), dtypes, sizes, st.integers(1, 15))
def test_top_k_keeps_exactly_k_of_the_largest(data, dtype, size, k):
    logits = data.draw(arrays((size,), dtype))
    kept = top_k_filter(logits, k)
    assert kept.dtype == dtype
    chosen = np.isfinite(kept)
    assert chosen.sum() == min(k, size)
    np.testing.assert_array_equal(kept[chosen], logits[chosen])
    assert logits[chosen].min() >= logits[~chosen].max(initial=-np.inf)
    equal = np.flatnonzero(logits == logits[chosen].min())
    assert chosen[equal[: chosen[equal].sum()]].all(), "of equal logits those of the lower ids"


@given(st.data(), dtypes, sizes, st.floats(0.01, 1.0))
def test_top_p_keeps_the_fewest_that_reach_p(data, dtype, size, p):
    logits = data.draw(arrays((size,), dtype))
    chosen = np.isfinite(top_p_filter(logits, p))
    probabilities = F.softmax(logits.astype(np.float64))
    kept, rounding = np.sort(probabilities[chosen]), 10 * np.finfo(dtype).eps
    assert kept.sum() >= p - rounding
    if p < 1:
        assert kept.sum() - kept[0] < p + rounding, "without the least of them, p would not be reached"
    assert logits[chosen].min() >= logits[~chosen].max(initial=-np.inf)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("probabilities", "p", "num_kept"),
    [
        ([0.5, 0.3, 0.1, 0.1], 0.8, 2),
        ([0.4, 0.3, 0.2, 0.1], 0.9, 3),
        ([0.6, 0.3, 0.1], 0.9, 2),
        ([0.5, 0.25, 0.25], 0.75, 2),
        ([0.1] * 10, 0.7, 7),
        ([0.2] * 5, 0.6, 3),
        ([0.05] * 20, 0.15, 3),
        ([0.7, 0.2, 0.1], 1e-12, 1),
        ([0.7, 0.2, 0.1], 0.700001, 2),
        ([1 - 1e-9, 1e-9], 1.0, 2),
    ],
)
def test_top_p_on_the_edge_keeps_the_tokens_whose_probabilities_sum_to_p(probabilities, p, num_kept, dtype):
    logits = np.log(np.array(probabilities)).astype(dtype)
    for shift in (0.0, 3.0):
        assert np.isfinite(top_p_filter(logits + np.array(shift, dtype), p)).sum() == num_kept


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("probabilities", "p", "num_kept"),
    [([0.5, 0.25, 0.25], 0.5, 3), ([0.6, 0.3, 0.06, 0.04], 0.1, 3), ([0.6, 0.4], 0.7, 1), ([0.5, 0.5], 1.0, 2)],
)
def test_min_p_on_the_edge_keeps_the_tokens_with_exactly_that_fraction(probabilities, p, num_kept, dtype):
    assert np.isfinite(min_p_filter(np.log(np.array(probabilities)).astype(dtype), p)).sum() == num_kept


@given(st.data(), dtypes, sizes, st.floats(0.0, 1.0))
def test_min_p_keeps_the_tokens_with_a_fraction_of_the_largest_probability(data, dtype, size, p):
    logits = data.draw(arrays((size,), dtype))
    kept = min_p_filter(logits, p)
    assert kept.dtype == dtype
    probabilities = F.softmax(logits.astype(np.float64))
    chosen = np.isfinite(kept)
    rounding = 10 * np.finfo(dtype).eps
    assert (probabilities[chosen] >= p * probabilities.max() - rounding).all()
    assert (probabilities[~chosen] < p * probabilities.max() + rounding).all()


@given(st.integers(0, 999), st.integers(2, 30), st.integers(1, 30), st.floats(0.05, 0.95))
def test_filters_equal_those_of_transformers(seed, size, k, p):
    logits = np.random.default_rng(seed).standard_normal(size)
    rows = torch.tensor(logits)[None]
    np.testing.assert_array_equal(top_k_filter(logits, k), TopKLogitsWarper(min(k, size))(None, rows.clone())[0])
    np.testing.assert_array_equal(top_p_filter(logits, p), TopPLogitsWarper(p)(None, rows.clone())[0])
    np.testing.assert_array_equal(min_p_filter(logits, p), MinPLogitsWarper(p)(None, rows.clone())[0])


def test_excluded_ids_have_the_probability_0():
    logits = np.array([1.0, 2.0, 3.0], np.float32)
    np.testing.assert_array_equal(exclude_ids(logits, {2, 0}), np.array([-np.inf, 2.0, -np.inf], np.float32))
    np.testing.assert_array_equal(logits, [1.0, 2.0, 3.0])
    with pytest.raises(IndexError, match=r"ids\[0\] is 3; it must be in \[0, 3\)"):
        exclude_ids(logits, [3])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: top_k_filter(x, 0), ValueError, "k is 0; it must be at least 1"),
        (lambda x: top_k_filter(x, 2.0), TypeError, "k is 2.0; it must be an integer"),
        (lambda x: top_k_filter(x, True), TypeError, "k is True; it must be an integer"),
        (lambda x: top_p_filter(x, 0.0), ValueError, "p is 0.0; it must be greater than 0"),
        (lambda x: top_p_filter(x, 1.1), ValueError, "p is 1.1"),
        (lambda x: top_p_filter(x, "0.5"), TypeError, "p is '0.5'; it must be a number"),
        (lambda x: top_p_filter(x, float("nan")), ValueError, "p is nan; it must be a finite number"),
        (lambda x: min_p_filter(x, -0.1), ValueError, "p is -0.1; it must be at least 0"),
        (lambda x: min_p_filter(x, 1.5), ValueError, "p is 1.5; it must be at least 0 and at most 1"),
        (lambda x: top_k_filter(x[None], 2), ValueError, r"logits has shape \(1, 3\); it must be \(V\)"),
        (lambda x: top_p_filter(x[None], 0.5), ValueError, r"logits has shape \(1, 3\); it must be \(V\)"),
        (lambda x: min_p_filter(x[0], 0.5), ValueError, r"logits has shape \(\); it must be \(V\)"),
        (lambda x: top_k_filter(x.astype(int), 2), TypeError, "logits has dtype int64; it must be floating point"),
    ],
)
def test_invalid_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones(3))

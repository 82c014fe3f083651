"""Sampling: properties of the filters, transformers' filters, and the distribution of the samples."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation import (
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from npllm import functional as F
from npllm.generation import penalize_repetition, sample, top_k_filter, top_p_filter
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


@given(st.data(), dtypes, sizes, st.floats(0.01, 1.0))
def test_top_p_keeps_the_fewest_that_reach_p(data, dtype, size, p):
    logits = data.draw(arrays((size,), dtype))
    chosen = np.isfinite(top_p_filter(logits, p))
    probabilities = F.softmax(logits.astype(np.float64))
    kept = np.sort(probabilities[chosen])
    assert kept.sum() >= p - 1e-9
    assert kept.sum() - kept[0] < p + 1e-9, "without the least of them, p would not be reached"
    assert logits[chosen].min() >= logits[~chosen].max(initial=-np.inf)


@given(st.integers(0, 999), st.integers(2, 30), st.integers(1, 30), st.floats(0.05, 0.95), st.floats(0.5, 2.0))
def test_filters_equal_those_of_transformers(seed, size, k, p, penalty):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal(size)
    ids = rng.integers(0, size, 4)
    rows, said = torch.tensor(logits)[None], torch.tensor(ids)[None]
    np.testing.assert_array_equal(top_k_filter(logits, k), TopKLogitsWarper(min(k, size))(said, rows.clone())[0])
    np.testing.assert_array_equal(top_p_filter(logits, p), TopPLogitsWarper(p)(said, rows.clone())[0])
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(said, rows.clone())[0]
    np.testing.assert_allclose(penalize_repetition(logits, ids, penalty), theirs, rtol=1e-12)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5}, {"temperature": 2.0, "top_k": 3}, {"top_p": 0.8}, {"top_k": 4, "top_p": 0.7}]
)
def test_samples_have_the_distribution(options):
    logits = np.array([0.0, 2.0, 1.0, -1.0, 1.5, -np.inf], np.float32)
    scaled = logits.astype(np.float64) / options.get("temperature", 1.0)
    if "top_k" in options:
        scaled = top_k_filter(scaled, options["top_k"])
    if "top_p" in options:
        scaled = top_p_filter(scaled, options["top_p"])
    expected = F.softmax(scaled)
    rng, draws = np.random.default_rng(0), 20_000
    counts = np.bincount([sample(logits, rng, **options) for _ in range(draws)], minlength=6)
    assert (counts[expected == 0] == 0).all()
    likely = expected > 0
    chi_squared = ((counts - draws * expected)[likely] ** 2 / (draws * expected)[likely]).sum()
    assert chi_squared < 25, "with up to 4 degrees of freedom this happens once in twenty thousand"


@given(st.data(), dtypes, sizes)
def test_temperature_0_takes_the_largest(data, dtype, size):
    logits = data.draw(arrays((size,), dtype))
    assert sample(logits, np.random.default_rng(0), temperature=0) == logits.argmax()
    assert sample(logits, np.random.default_rng(0), top_k=1) == logits.argmax()


def test_excluded_tokens_are_never_drawn_at_the_edges():
    class Edge:
        def __init__(self, value):
            self.value = value

        def random(self):
            return self.value

    logits = np.array([-np.inf, 0.0, 0.0, -np.inf])
    assert sample(logits, Edge(0.0)) == 1
    assert sample(logits, Edge(np.nextafter(1.0, 0.0))) == 2


def test_the_largest_random_number_draws_the_last_token_whatever_rounding_adds_to_the_probabilities():
    class Largest:
        def random(self):
            return np.nextafter(1.0, 0.0)

    sums = set()
    for seed in range(60):
        logits = np.random.default_rng(seed).standard_normal(300)
        sums.add(float(np.sign(np.cumsum(F.softmax(logits))[-1] - 1.0)))
        assert sample(logits, Largest()) == 299
    assert {-1.0, 1.0} <= sums, "probabilities that add up to less than 1, and to more"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: top_k_filter(x, 0), "k is 0; it must be at least 1"),
        (lambda x: top_p_filter(x, 0.0), "p is 0.0; it must be greater than 0"),
        (lambda x: top_p_filter(x, 1.1), "p is 1.1"),
        (lambda x: penalize_repetition(x, [0], 0.0), "penalty is 0.0"),
        (lambda x: sample(x, None, temperature=-1), "temperature is -1"),
        (lambda x: sample(x * np.nan, None), "have no finite maximum"),
        (lambda x: sample(x - np.inf, None), "have no finite maximum"),
    ],
)
def test_invalid_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones(3))

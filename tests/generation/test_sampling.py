"""Sampling: the distribution of the samples, temperatures of all sizes, the order of the steps, invalid arguments."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from npllm import functional as F
from npllm.generation import Sampling, min_p_filter, penalize_frequency, sample, top_k_filter, top_p_filter
from npllm.generation.filters import top_k_ids, top_p_ids
from npllm.generation.sampling import draw_index
from tests.strategies import arrays, dtypes, seeds

sizes = st.integers(1, 12)


class Fixed:
    """A generator whose random number is known."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0, "top_k": 3},
        {"top_p": 0.8},
        {"top_k": 4, "top_p": 0.7},
        {"min_p": 0.3},
        {"temperature": 1.5, "top_p": 0.9, "min_p": 0.2},
    ],
)
def test_samples_have_the_distribution(options):
    logits = np.array([0.0, 2.0, 1.0, -1.0, 1.5, -np.inf], np.float32)
    scaled = logits.astype(np.float64) / options.get("temperature", 1.0)
    if "top_k" in options:
        scaled = top_k_filter(scaled, options["top_k"])
    if "top_p" in options:
        scaled = top_p_filter(scaled, options["top_p"])
    if "min_p" in options:
        scaled = min_p_filter(scaled, options["min_p"])
    expected = F.softmax(scaled)
    rng, draws = np.random.default_rng(0), 20_000
    counts = np.bincount([sample(logits, rng, **options) for _ in range(draws)], minlength=6)
    assert (counts[expected == 0] == 0).all()
    likely = expected > 0
    chi_squared = ((counts - draws * expected)[likely] ** 2 / (draws * expected)[likely]).sum()
    assert chi_squared < 25, "with up to 4 degrees of freedom this happens once in twenty thousand"


@given(
    st.integers(0, 999),
    st.integers(5, 30),
    st.floats(0, 0.999),
    st.fixed_dictionaries(
        {
            "temperature": st.floats(0.3, 3.0),
            "top_k": st.none() | st.integers(1, 12),
            "top_p": st.none() | st.floats(0.05, 0.95),
            "min_p": st.none() | st.floats(0.01, 0.9),
            "repetition_penalty": st.floats(0.5, 2.0),
            "logit_bias": st.dictionaries(st.integers(0, 4), st.floats(-3, 3), min_size=1, max_size=3),
        }
    ),
)
def test_the_steps_and_their_order_are_those_of_transformers(seed, size, u, options):
    rng = np.random.default_rng(seed)
    logits, ids = rng.standard_normal(size).astype(np.float32), rng.integers(0, size, 6)
    biases = [[[token_id], bias] for token_id, bias in options["logit_bias"].items()]
    processors = LogitsProcessorList(
        [
            SequenceBiasLogitsProcessor(biases),
            RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]),
            TemperatureLogitsWarper(options["temperature"]),
            *([TopKLogitsWarper(min(options["top_k"], size))] if options["top_k"] else []),
            *([TopPLogitsWarper(options["top_p"])] if options["top_p"] else []),
            *([MinPLogitsWarper(options["min_p"])] if options["min_p"] else []),
        ]
    )
    scores = processors(torch.tensor(ids)[None], torch.tensor(logits)[None].clone())[0].double()
    cumulative = scores.softmax(-1).cumsum(-1).numpy()
    drawn = Sampling(**options).next_id(logits, ids.tolist(), Fixed(u))
    assert cumulative[drawn] >= u - 1e-5 and (cumulative[drawn - 1] if drawn else 0.0) <= u + 1e-5
    assert torch.isfinite(scores[drawn])


def test_frequency_and_presence_penalty_count_the_generated_ids_only():
    logits = np.zeros(4, np.float32)
    sampling = Sampling(temperature=0, frequency_penalty=1.0, presence_penalty=0.5)
    assert sampling.next_id(logits, [0, 0, 1, 2], None, prompt_length=2) == 0
    assert sampling.next_id(logits, [0, 0, 1, 2], None) == 3
    expected = penalize_frequency(logits, [1, 2], 1.0, 0.5)
    np.testing.assert_array_equal(expected, [0.0, -1.5, -1.5, 0.0])


@given(st.data(), dtypes, sizes)
def test_temperature_0_takes_the_largest(data, dtype, size):
    logits = data.draw(arrays((size,), dtype))
    assert sample(logits, np.random.default_rng(0), temperature=0) == logits.argmax()
    assert sample(logits, np.random.default_rng(0), top_k=1) == logits.argmax()


@pytest.mark.parametrize("temperature", [1e-320, 1e-300, 1e-30, 1e-3])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e300])
def test_a_temperature_near_0_takes_the_largest_without_overflow(temperature, scale):
    logits = scale * np.array([1.0, 3.0, -2.0, -np.inf])
    for options in ({}, {"top_p": 0.5}, {"top_k": 2}, {"min_p": 0.1}):
        assert sample(logits, Fixed(0.999), temperature, **options) == 1
    equal = np.array([3.0, 1.0, 3.0])
    assert {sample(equal, Fixed(u), temperature) for u in (0.1, 0.9)} == {0, 2}


def test_a_very_large_temperature_draws_all_tokens_that_are_not_excluded_equally():
    logits = np.array([1.0, 300.0, -np.inf, -5.0])
    drawn = [sample(logits, Fixed(u), 1e308) for u in (0.1, 0.5, 0.9)]
    assert drawn == [0, 1, 3]


def test_excluded_tokens_are_never_drawn_at_the_edges():
    logits = np.array([-np.inf, 0.0, 0.0, -np.inf])
    assert sample(logits, Fixed(0.0)) == 1
    assert sample(logits, Fixed(np.nextafter(1.0, 0.0))) == 2


def test_the_largest_random_number_draws_the_last_token_whatever_rounding_adds_to_the_probabilities():
    sums = set()
    for seed in range(60):
        logits = np.random.default_rng(seed).standard_normal(300)
        sums.add(float(np.sign(np.cumsum(F.softmax(logits))[-1] - 1.0)))
        assert sample(logits, Fixed(np.nextafter(1.0, 0.0))) == 299
    assert {-1.0, 1.0} <= sums, "probabilities that add up to less than 1, and to more"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: sample(x, None, temperature=-1), ValueError, "temperature is -1"),
        (lambda x: sample(x, None, temperature=np.inf), ValueError, "temperature is inf; it must be a finite number"),
        (lambda x: sample(x, None, temperature="0"), TypeError, "temperature is '0'; it must be a number"),
        (lambda x: sample(x * np.nan, None), ValueError, "have no finite maximum"),
        (lambda x: sample(x - np.inf, None), ValueError, "have no finite maximum"),
        (lambda x: sample(x[:0], None), ValueError, "have no finite maximum"),
        (lambda x: sample(x, 0), TypeError, "rng is 0; it must be a numpy.random.Generator"),
        (lambda x: sample(x, None), TypeError, "rng is None; it must be a numpy.random.Generator"),
        (lambda x: sample(x, np.random.default_rng(0), top_k=2.0), TypeError, "k is 2.0; it must be an integer"),
        (lambda x: sample(x[None], None), ValueError, r"logits has shape \(1, 3\); it must be \(V\)"),
        (lambda x: sample(x[None], None, 0), ValueError, r"logits has shape \(1, 3\); it must be \(V\)"),
        (lambda x: sample(np.array([1, 2]), None), TypeError, "logits has dtype int64; it must be floating point"),
    ],
)
def test_invalid_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones(3))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k is 0; it must be at least 1"),
        ({"top_k": 2.0}, TypeError, "top_k is 2.0; it must be an integer"),
        ({"top_p": 1.1}, ValueError, "top_p is 1.1; it must be greater than 0 and at most 1"),
        ({"min_p": -1}, ValueError, "min_p is -1; it must be at least 0 and at most 1"),
        ({"repetition_penalty": 0}, ValueError, "repetition_penalty is 0; it must be greater than 0"),
        ({"frequency_penalty": np.nan}, ValueError, "frequency_penalty is nan; it must be a finite number"),
        ({"presence_penalty": "1"}, TypeError, "presence_penalty is '1'; it must be a number"),
        ({"logit_bias": [(1, 2.0)]}, TypeError, r"logit_bias is \[\(1, 2.0\)\]; it must be a dict"),
        ({"logit_bias": {"1": 2.0}}, TypeError, "an id of logit_bias is '1'; it must be an integer"),
        ({"logit_bias": {1: np.inf}}, ValueError, r"logit_bias\[1\] is inf; it must be a finite number"),
    ],
)
def test_invalid_options(options, error, message):
    with pytest.raises(error, match=message):
        Sampling(**options)


def test_the_defaults_change_nothing():
    logits = np.random.default_rng(0).standard_normal(20)
    assert {field.name for field in dataclasses.fields(Sampling)} >= {"min_p", "logit_bias"}
    for u in np.linspace(0, 0.999, 50):
        expected = np.searchsorted(np.cumsum(F.softmax(logits)), u, side="right")
        assert Sampling().next_id(logits, [1, 2], Fixed(u)) == expected


@given(st.integers(1, 600), seeds, st.sampled_from([0.0, 1e-17, 0.3, 0.5, 0.999, 1 - 2**-53]), st.floats(0, 0.9))
def test_the_index_is_that_of_the_cumulative_sum(size, seed, u, zeros):
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 9, size) * (rng.random(size) >= zeros).astype(np.float64)  # sums without rounding
    weights[rng.integers(size)] = 1.0
    cumulative = np.cumsum(weights)
    expected = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    assert draw_index(weights, u) == expected < size
    assert weights[expected] > 0


@given(st.integers(1, 600), seeds)
def test_rounding_never_draws_an_index_without_weight(size, seed):
    rng = np.random.default_rng(seed)
    weights = rng.random(size) * 10.0 ** rng.integers(-20, 20, size) * rng.integers(0, 2, size)
    weights[rng.integers(size)] = 0.1
    for u in (0.0, 1 - 2**-53, *rng.random(5)):
        assert weights[draw_index(weights, u)] > 0


@given(st.integers(1, 300), st.integers(1, 300), seeds, st.floats(0.01, 1.0), st.sampled_from([1, 4, 50]))
def test_ids_that_are_kept_are_those_of_a_sorted_list(size, k, seed, p, num_values):
    """With many equal logits, of which those of the lower ids come first."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, num_values, size) / 7 + np.where(rng.random(size) < 0.1, -np.inf, 0.0)
    logits[rng.integers(size)] = 0.0
    order = sorted(range(size), key=lambda i: (-logits[i], i))
    np.testing.assert_array_equal(top_k_ids(logits, k), sorted(order[:k]))
    probabilities = np.exp(logits) / np.exp(logits).sum()
    total, num_kept = 0.0, 0
    while num_kept < size and (num_kept == 0 or total < p - 1e-9):
        total += probabilities[order[num_kept]]
        num_kept += 1
    found = top_p_ids(logits, p, 1e-9)
    if p < 1:
        np.testing.assert_array_equal(found, sorted(order[:num_kept]))
    else:
        assert len(found) == size


def test_every_block_of_weights_is_drawn_from():
    weights = np.ones(1000)
    assert [draw_index(weights, (i + 0.5) / 1000) for i in range(1000)] == list(range(1000))


@pytest.mark.parametrize("k", [1, 2, 3, 9, 10, 11, 640])
def test_top_k_where_every_block_has_one_large_logit(k):
    logits = -np.arange(640.0) - 100
    logits[::64] = np.arange(10)
    np.testing.assert_array_equal(top_k_ids(logits, k), np.sort(np.argsort(-logits)[:k]))

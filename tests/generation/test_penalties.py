"""Penalties and biases of logits: their definitions, and transformers' processors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation import RepetitionPenaltyLogitsProcessor, SequenceBiasLogitsProcessor

from npllm.generation import add_bias, penalize_frequency, penalize_repetition
from tests.strategies import arrays, dtypes


@given(st.integers(0, 999), st.integers(2, 30), st.floats(0.5, 2.0), st.floats(-5, 5))
def test_penalties_and_biases_equal_those_of_transformers(seed, size, penalty, bias):
    rng = np.random.default_rng(seed)
    logits, ids = rng.standard_normal(size), rng.integers(0, size, 4)
    rows, said = torch.tensor(logits)[None], torch.tensor(ids)[None]
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(said, rows.clone())[0]
    np.testing.assert_allclose(penalize_repetition(logits, ids, penalty), theirs, rtol=1e-12)
    biases = {int(token_id): bias for token_id in set(ids.tolist())}
    theirs = SequenceBiasLogitsProcessor([[[token_id], value] for token_id, value in biases.items()])
    np.testing.assert_allclose(add_bias(logits, biases), theirs(said, rows.float())[0], rtol=1e-5, atol=1e-6)


@given(st.data(), dtypes, st.integers(1, 9), st.lists(st.integers(0, 8)), st.floats(-2, 2), st.floats(-2, 2))
def test_frequency_and_presence_penalty_have_openais_definition(data, dtype, size, ids, frequency, presence):
    logits, ids = data.draw(arrays((size,), dtype)), [token_id for token_id in ids if token_id < size]
    penalized = penalize_frequency(logits, ids, frequency, presence)
    assert penalized.dtype == dtype
    for token_id in range(size):
        count = ids.count(token_id)
        expected = logits[token_id] - count * frequency - float(count > 0) * presence
        assert penalized[token_id] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_presence_penalty_does_not_count_repetitions():
    np.testing.assert_array_equal(penalize_frequency(np.zeros(3), [1, 1, 2], 1.0, 0.5), [0.0, -2.5, -1.5])


def test_without_ids_the_logits_are_copied():
    logits = np.ones(3)
    for result in (penalize_repetition(logits, [], 2.0), penalize_frequency(logits, [], 2.0), add_bias(logits, {})):
        np.testing.assert_array_equal(result, logits)
        assert not np.shares_memory(result, logits)


def test_a_bias_of_minus_infinity_excludes_an_id():
    np.testing.assert_array_equal(add_bias(np.ones(3), {1: -np.inf, 2: 0.5}), [1.0, -np.inf, 1.5])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: penalize_repetition(x, [0], 0.0), ValueError, "penalty is 0.0; it must be greater than 0"),
        (
            lambda x: penalize_repetition(x, [0], np.inf),
            ValueError,
            "penalty is inf; it must be greater than 0",
        ),
        (lambda x: penalize_repetition(x, [3], 2.0), IndexError, r"ids\[0\] is 3"),
        (lambda x: penalize_repetition(x[None], [0], 2.0), ValueError, r"logits has shape \(1, 3\); it must be \(V\)"),
        (lambda x: penalize_repetition(x, [[0]], 2.0), ValueError, r"ids has shape \(1, 1\); it must be \(N\)"),
        (lambda x: penalize_repetition(x, 0, 2.0), ValueError, r"ids has shape \(\); it must be \(N\)"),
        (lambda x: penalize_frequency(x, [0], "1"), TypeError, "frequency_penalty is '1'; it must be a number"),
        (lambda x: penalize_frequency(x, [-1], 1.0), IndexError, r"ids\[0\] is -1"),
        (lambda x: add_bias(x, {3: 1.0}), IndexError, r"logit_bias\[0\] is 3; it must be in \[0, 3\)"),
        (lambda x: add_bias(x, {1.0: 1.0}), TypeError, "an id of logit_bias is 1.0; it must be an integer"),
    ],
)
def test_invalid_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones(3))

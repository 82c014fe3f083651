"""Layer by layer: hidden states and weights against transformers' kind of loop, and heads with a known pattern."""

import numpy as np
import pytest

from npllm.inspect import layers
from npllm.models import ARCHITECTURES, GPT, GPTConfig, architecture, build
from tests.models.test_gpt import small


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_states_lead_from_the_embedding_to_the_logits(name):
    model = build(architecture(name, 11, 16, 16, 2, 2), rng=np.random.default_rng(0), dtype="float64")
    ids = np.random.default_rng(1).integers(0, 11, 7)
    found = layers.layers_of(model, ids)
    assert [state.shape for state in found.hidden_states] == [(7, 16)] * 3
    np.testing.assert_allclose(layers.logit_lens(model, found.hidden_states[-1]), model(ids), rtol=1e-9, atol=1e-12)
    blocks = model.layers if hasattr(model, "layers") else model.h
    np.testing.assert_allclose(
        blocks[0](found.hidden_states[0][None])[0], found.hidden_states[1], rtol=1e-9, atol=1e-12
    )
    for weights in found.attention_weights:
        assert (weights is None) == (name in ("linear", "delta"))
        if weights is not None:
            np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-9)
    assert "forward" not in vars(blocks[0]), "the model is as before"


def test_the_weights_are_those_of_the_trace():
    model, ids, _ = small()
    found = layers.layers_of(model, ids[0])
    _, cache = model.forward(ids[:1])
    for index, weights in enumerate(found.attention_weights):
        np.testing.assert_allclose(weights, cache.h[index].attn.attention.weights[0], rtol=1e-12)


def test_measures_of_heads_with_a_known_pattern():
    length = 8
    previous, first, itself, induced = (np.zeros((length, length)) for _ in range(4))
    for t in range(length):
        previous[t, max(t - 1, 0)] = first[t, 0] = itself[t, t] = 1.0
        induced[t, t - length // 2 + 1 if t >= length // 2 else 0] = 1.0
    heads = np.stack([previous, first, itself, induced])
    np.testing.assert_array_equal(layers.attention_to_previous(heads)[:3], [1, 0, 0])
    np.testing.assert_array_equal(layers.attention_to_first(heads)[:3], [0, 1, 0])
    np.testing.assert_array_equal(layers.attention_to_itself(heads), [0, 0, 1, 0])
    np.testing.assert_array_equal(layers.induction(heads), [0, 0, 0, 1])
    assert layers.strongest_head([None, heads[:1], heads], layers.attention_to_first) == (1.0, 2, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: layers.layers_of(model, np.zeros((1, 2), int)), r"ids has shape \(1, 2\); it must be \(T\)"),
        (lambda model: layers.layers_of(model, np.zeros(0, int)), "must have at least 1 ids"),
        (lambda model: layers.strongest_head([None], layers.induction), "has no layer with attention weights"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(GPT(GPTConfig(11, 8, 4, 1, 2), rng=np.random.default_rng(0)))

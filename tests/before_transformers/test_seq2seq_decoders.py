"""The decoders by themselves; tests of the whole model are in test_seq2seq.py."""

import numpy as np
import pytest

from npllm import functional as F
from npllm.before_transformers import LSTMCell
from npllm.before_transformers.seq2seq_decoders import ATTENTIONS, CELLS, LAYERS, build_decoder
from npllm.core.gradient_check import check_gradients
from tests.equivalence import implementation

E, H = 3, 4  # embedding_dim, hidden_size


def build(attention, cell="gru"):
    """A decoder with random weights, and inputs for it: x, the encoder's states, the initial state, a mask."""
    rng = np.random.default_rng(0)
    decoder = build_decoder(attention, cell, E, H, "float64")
    for _, parameter in decoder.named_parameters():
        parameter.data[...] = 0.5 * rng.standard_normal(parameter.shape)
    x, states = rng.standard_normal((2, 4, E)), rng.standard_normal((2, 5, H))
    state = [rng.standard_normal((2, H)) for _ in range(2 if cell == "lstm" else 1)]
    return decoder, x, states, state, np.arange(5) < np.array([[5], [3]])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_finite_differences_of_all_inputs(attention, cell):
    decoder, x, states, state, mask = build(attention, cell)
    (outputs, *_), cache = decoder.forward(x, states, *state, mask=mask)
    assert outputs.shape == (2, 4, decoder.output_size)
    doutputs = np.random.default_rng(1).standard_normal(outputs.shape)
    gradients = decoder.backward(doutputs, cache)
    check_gradients(
        lambda *_: (decoder(x, states, *state, mask=mask)[0] * doutputs).sum(),
        [x, states, *state],
        gradients,
        np.random.default_rng(2),
        directions=1,
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_step_by_step_with_the_state_passed_on_equals_all_at_once(attention, cell):
    decoder, x, states, state, mask = build(attention, cell)
    outputs, *last = decoder(x, states, *state, mask=mask)
    for t in range(4):
        output, *state = decoder(x[:, t : t + 1], states, *state, mask=mask)
        np.testing.assert_allclose(output[:, 0], outputs[:, t], rtol=1e-10, atol=1e-12)
    for array, expected in zip(state, last, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_loss_reaches_all_encoder_states_only_with_attention(attention):
    decoder, x, states, state, mask = build(attention)
    (outputs, *_), cache = decoder.forward(x, states, *state, mask=mask)
    _, dstates, dstate = decoder.backward(np.random.default_rng(1).standard_normal(outputs.shape), cache)
    assert dstates[mask].any(axis=-1).all() == (attention != "none")
    assert not dstates[~mask].any(), "padding has no gradient"
    assert dstate.any()


def test_the_cell_of_bahdanaus_decoder_and_the_layers_of_the_others():
    assert isinstance(build_decoder("additive", "lstm", E, H, "float32").cell, LSTMCell)
    for attention in ("none", "dot", "general", "concat"):
        assert type(build_decoder(attention, "rnn", E, H, "float32").recurrent) is LAYERS["rnn"]


def build_model(attention):
    """A model with this decoder and larger weights than at initialization, and ids for it."""
    rng = np.random.default_rng(0)
    model = implementation("Seq2Seq")(7, 6, E, H, attention, rng=rng, dtype="float64")
    for _, parameter in model.named_parameters():
        parameter.data += 0.3 * rng.standard_normal(parameter.shape)
    return model, rng.integers(0, 7, 5), rng.integers(0, 6, 4)


@pytest.mark.covers("Seq2Seq")
def test_luongs_decoder_equals_a_plain_loop():
    model, source, inputs = build_model("dot")
    states, h = model.encoder(model.source_embedding(source))
    W = model.decoder.combine.weight.data
    for t, logits in enumerate(model(source, inputs)):
        _, h = model.decoder.recurrent(model.target_embedding(inputs[t : t + 1]), h)
        weights = F.softmax(np.array([sum(h * state) for state in states]))
        context = sum(weight * state for weight, state in zip(weights, states))
        output = np.tanh(W @ np.concatenate([context, h]))
        np.testing.assert_allclose(logits, model.head(output), rtol=1e-10)


@pytest.mark.covers("Seq2Seq")
def test_bahdanaus_decoder_equals_a_plain_loop():
    model, source, inputs = build_model("additive")
    states, h = model.encoder(model.source_embedding(source))
    attention = model.decoder.attention
    for t, logits in enumerate(model(source, inputs)):
        scores = [
            attention.v.data @ np.tanh(attention.W_query.weight.data @ h + attention.W_key.weight.data @ state)
            for state in states
        ]
        context = sum(weight * state for weight, state in zip(F.softmax(np.array(scores)), states))
        h = model.decoder.cell(np.concatenate([model.target_embedding(inputs[t]), context]), h)
        np.testing.assert_allclose(logits, model.head(np.concatenate([h, context])), rtol=1e-10)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.before_transformers import Seq2Seq
from npllm.before_transformers.seq2seq import DECODERS, RECURRENT
from npllm.core.gradient_check import check_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import dtypes, integers, seeds, sizes

pytestmark = pytest.mark.covers("Seq2Seq")
attentions = st.sampled_from(list(DECODERS))
WITH_ATTENTION = [name for name in DECODERS if name != "none"]


def built(attention, cell="gru", dtype="float64"):
    """A small model whose weights are large enough to matter, and a batch for it, one source of it filled up."""
    rng = np.random.default_rng(0)
    model = implementation("Seq2Seq")(7, 6, 3, 4, attention, cell, rng=rng, dtype=dtype)
    for _, parameter in model.named_parameters():
        parameter.data += (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    mask = np.arange(5) < np.array([[5], [3]])
    return model, rng.integers(0, 7, (2, 5)), rng.integers(0, 6, (2, 4)), mask


@given(st.data(), attentions, st.sampled_from(list(RECURRENT)), dtypes, st.tuples(sizes, sizes, sizes, sizes), seeds)
def test_equals_pytorch(data, attention, cell, dtype, widths, seed):
    S, T, d_embedding, d_hidden = widths
    batch = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    source, inputs = data.draw(integers((*batch, S), 5)), data.draw(integers((*batch, T), 6))
    config = {
        "source_size": 5,
        "target_size": 6,
        "d_embedding": d_embedding,
        "d_hidden": d_hidden,
        "attention": attention,
        "cell": cell,
    }
    lengths = np.random.default_rng(seed).integers(1, S + 1, (*batch, 1))
    mask = data.draw(st.sampled_from([None, np.arange(S) < lengths]))
    # the sums run over both networks' steps, one behind the other
    check_layer("Seq2Seq", config, source, inputs, dtype=dtype, mask=mask, loosen=3.0)


@pytest.mark.parametrize("cell", RECURRENT)
@pytest.mark.parametrize("attention", DECODERS)
def test_finite_differences_of_the_loss(attention, cell):
    model, source, inputs, mask = built(attention, cell)
    targets = np.random.default_rng(1).integers(0, 6, (2, 4))
    targets[0, 2:] = -100
    loss, cache = model.loss_forward(source, inputs, targets, mask)
    assert loss == model.loss(source, inputs, targets, mask)
    model.loss_backward(1.0, cache)
    parameters = [parameter for _, parameter in model.named_parameters()]
    check_gradients(
        lambda *_: model.loss(source, inputs, targets, mask),
        [parameter.data for parameter in parameters],
        [parameter.grad for parameter in parameters],
        np.random.default_rng(2),
        directions=1,
    )


@pytest.mark.parametrize("attention", DECODERS)
def test_a_target_sees_the_targets_before_it_and_all_of_the_source(attention):
    model, source, inputs, _ = built(attention)
    before = model(source, inputs)
    changed = inputs.copy()
    changed[:, 2] = (changed[:, 2] + 1) % 6
    after = model(source, changed)
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    assert (after[:, 2:] != before[:, 2:]).any(axis=-1).all()
    for s in range(5):
        other = source.copy()
        other[:, s] = (other[:, s] + 1) % 7
        assert (model(other, inputs) != before).any(axis=-1).all()


@pytest.mark.parametrize("attention", DECODERS)
def test_filling_changes_nothing(attention):
    model, source, inputs, mask = built(attention)
    logits = model(source, inputs, mask)
    np.testing.assert_allclose(logits[1], model(source[1, :3], inputs[1]), rtol=1e-10, atol=1e-12)
    other = np.where(mask, source, (source + 1) % 7)
    np.testing.assert_array_equal(model(other, inputs, mask), logits)


@pytest.mark.parametrize("attention", DECODERS)
def test_no_sequence_of_a_batch_knows_of_another(attention):
    model, source, inputs, _ = built(attention)
    np.testing.assert_allclose(model(source, inputs)[0], model(source[0], inputs[0]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", RECURRENT)
@pytest.mark.parametrize("attention", DECODERS)
def test_greedy_writes_what_the_logits_prefer(attention, cell):
    """Step by step with the state carried, against the whole prefix at once."""
    model, source, _, mask = built(attention, cell)
    written = model.greedy(source, begin=0, end=1, max_length=6, mask=mask)
    assert written.shape[0] == 2
    assert 1 <= written.shape[1] <= 6
    for row in range(2):
        prefix = [0]
        for token in written[row]:
            if 1 in prefix[1:]:
                assert token == 1, "behind the end there is nothing but the end"
                continue
            logits = model(source[row], np.array(prefix), mask[row])
            assert token == logits[-1].argmax()
            prefix.append(int(token))


def test_greedy_stops_when_all_have_ended_and_after_max_length():
    model, source, _, _ = built("general")
    model.head.bias.data[1] = 100.0
    np.testing.assert_array_equal(model.greedy(source, 0, 1, 6), [[1], [1]])
    model.head.bias.data[1] = -100.0
    assert model.greedy(source, 0, 1, 6).shape == (2, 6)
    assert model.greedy(source[0], 0, 1, 6).shape == (6,)


@pytest.mark.parametrize("attention", WITH_ATTENTION)
def test_alignment_is_a_distribution_over_the_real_source(attention):
    model, source, inputs, mask = built(attention)
    alignment = model.alignment(source, inputs, mask)
    assert alignment.shape == (2, 4, 5)
    np.testing.assert_allclose(alignment.sum(axis=-1), 1.0, rtol=1e-12)
    assert not alignment[1, :, 3:].any()
    assert alignment[0].all()


def test_luongs_decoder_is_its_parts_in_a_plain_loop():
    model, source, inputs, _ = built("dot")
    states, h = model.encoder(model.source_embedding(source[0]))
    W = model.decoder.combine.weight.data
    for t, logits in enumerate(model(source[0], inputs[0])):
        _, h = model.decoder.recurrent(model.target_embedding(inputs[0, t : t + 1]), h)
        weights = F.softmax(np.array([sum(h * state) for state in states]))
        context = sum(weight * state for weight, state in zip(weights, states))
        features = np.tanh(W @ np.concatenate([context, h]))
        np.testing.assert_allclose(logits, model.head(features), rtol=1e-10)


def test_bahdanaus_decoder_is_its_parts_in_a_plain_loop():
    model, source, inputs, _ = built("additive")
    states, h = model.encoder(model.source_embedding(source[0]))
    attention = model.decoder.attention
    for t, logits in enumerate(model(source[0], inputs[0])):
        scores = [
            attention.v.data @ np.tanh(attention.W_query.weight.data @ h + attention.W_key.weight.data @ state)
            for state in states
        ]
        context = sum(weight * state for weight, state in zip(F.softmax(np.array(scores)), states))
        h = model.decoder.cell(np.concatenate([model.target_embedding(inputs[0, t]), context]), h)
        np.testing.assert_allclose(logits, model.head(np.concatenate([h, context])), rtol=1e-10)


@pytest.mark.parametrize("attention", DECODERS)
def test_how_far_the_gradient_of_the_first_word_has_to_travel(attention):
    """Without attention the encoder hears of the loss through its last state alone."""
    model, source, inputs, _ = built(attention)
    _, cache = model.forward(source, inputs)
    features = cache.head.x
    _, dstates, dlast = model.decoder.backward(np.ones_like(features), cache.decoder)
    assert dstates.any() == (attention != "none")
    assert dlast.any()


class TestBadArguments:
    def test_choices(self):
        with pytest.raises(ValueError, match="attention is 'self'; it must be one of none, additive, dot, general, co"):
            Seq2Seq(5, 5, 3, 4, "self")
        with pytest.raises(ValueError, match="cell is 'sru'; it must be one of rnn, gru, lstm"):
            Seq2Seq(5, 5, 3, 4, "none", "sru")
        with pytest.raises(ValueError, match="d_hidden is 0"):
            Seq2Seq(5, 5, 3, 0)

    def test_sequences(self):
        model, source, inputs, _ = built("dot")
        with pytest.raises(ValueError, match=r"inputs has shape \(2, 0\); it must be a sequence of at least one id"):
            model(source, inputs[:, :0])
        with pytest.raises(ValueError, match=r"source has shape \(\)"):
            model(3, inputs)
        with pytest.raises(IndexError, match=r"ids\[0, 0\] is 7; it must be in \[0, 7\)"):
            model(np.full((2, 5), 7), inputs)

    def test_greedy(self):
        model, source, _, _ = built("dot")
        with pytest.raises(IndexError, match="end is 6; it must be in"):
            model.greedy(source, 0, 6, 5)
        with pytest.raises(ValueError, match="max_length is 0"):
            model.greedy(source, 0, 1, 0)

    def test_alignment_without_attention(self):
        model, source, inputs, _ = built("none")
        with pytest.raises(ValueError, match="a model without attention has no alignment"):
            model.alignment(source, inputs)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.before_transformers import Seq2Seq
from npllm.before_transformers.seq2seq_decoders import ATTENTIONS, CELLS
from npllm.core.gradient_check import check_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import dtypes, integers, seeds, sizes

pytestmark = pytest.mark.covers("Seq2Seq")
WITH_ATTENTION = [name for name in ATTENTIONS if name != "none"]


def build(attention, cell="gru", dtype="float64"):
    """A small model with weights larger than at initialization, and a batch of two sources, one with padding."""
    rng = np.random.default_rng(0)
    model = implementation("Seq2Seq")(7, 6, 3, 4, attention, cell, rng=rng, dtype=dtype)
    for _, parameter in model.named_parameters():
        parameter.data += (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    mask = np.arange(5) < np.array([[5], [3]])
    return model, rng.integers(0, 7, (2, 5)), rng.integers(0, 6, (2, 4)), mask


@given(
    st.data(),
    st.sampled_from(ATTENTIONS),
    st.sampled_from(list(CELLS)),
    dtypes,
    st.tuples(sizes, sizes, sizes, sizes),
    seeds,
)
def test_equals_pytorch(data, attention, cell, dtype, all_sizes, seed):
    S, T, embedding_dim, hidden_size = all_sizes
    batch = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    source, inputs = data.draw(integers((*batch, S), 5)), data.draw(integers((*batch, T), 6))
    config = {
        "source_vocab_size": 5,
        "target_vocab_size": 6,
        "embedding_dim": embedding_dim,
        "hidden_size": hidden_size,
        "attention": attention,
        "cell": cell,
    }
    lengths = np.random.default_rng(seed).integers(1, S + 1, (*batch, 1))
    mask = data.draw(st.sampled_from([None, np.arange(S) < lengths]))
    # loosened: the rounding errors of all steps of both networks add up
    check_layer("Seq2Seq", config, source, inputs, dtype=dtype, mask=mask, loosen=3.0)


def test_the_defaults_are_those_of_the_reference():
    config = {"source_vocab_size": 5, "target_vocab_size": 6, "embedding_dim": 3, "hidden_size": 4}
    check_layer("Seq2Seq", config, np.array([1, 0, 4]), np.array([0, 5]), dtype="float64")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_finite_differences_of_the_loss(attention, cell):
    model, source, inputs, mask = build(attention, cell)
    targets = np.random.default_rng(1).integers(0, 6, (2, 4))
    targets[0, 2:] = -100
    loss, cache = model.loss_forward(source, inputs, targets, mask=mask)
    assert loss == model.loss(source, inputs, targets, mask=mask)
    model.loss_backward(1.0, cache)
    parameters = [parameter for _, parameter in model.named_parameters()]
    check_gradients(
        lambda *_: model.loss(source, inputs, targets, mask=mask),
        [parameter.data for parameter in parameters],
        [parameter.grad for parameter in parameters],
        np.random.default_rng(2),
        directions=1,
    )


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_logits_depend_on_earlier_inputs_and_on_the_whole_source(attention):
    model, source, inputs, _ = build(attention)
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


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_has_no_effect(attention):
    model, source, inputs, mask = build(attention)
    logits = model(source, inputs, mask=mask)
    np.testing.assert_allclose(logits[1], model(source[1, :3], inputs[1]), rtol=1e-10, atol=1e-12)
    other = np.where(mask, source, (source + 1) % 7)
    np.testing.assert_array_equal(model(other, inputs, mask=mask), logits)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_sequences_of_a_batch_are_independent(attention):
    model, source, inputs, _ = build(attention)
    np.testing.assert_allclose(model(source, inputs)[0], model(source[0], inputs[0]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_greedy_decoding_takes_the_largest_logit_of_the_whole_prefix(attention, cell):
    """Step by step with the state passed on, against a forward pass over the whole prefix."""
    model, source, _, mask = build(attention, cell)
    generated = model.greedy_decode(source, bos_id=0, eos_id=1, max_length=6, mask=mask)
    assert generated.shape[0] == 2
    assert 1 <= generated.shape[1] <= 6
    for row in range(2):
        prefix = [0]
        for token in generated[row]:
            if 1 in prefix[1:]:
                assert token == 1, "only eos_id follows the first eos_id"
                continue
            logits = model(source[row], np.array(prefix), mask=mask[row])
            assert token == logits[-1].argmax()
            prefix.append(int(token))


def test_greedy_decoding_stops_at_eos_and_after_max_length():
    model, source, _, _ = build("general")
    model.head.bias.data[1] = 100.0
    np.testing.assert_array_equal(model.greedy_decode(source, 0, 1, 6), [[1], [1]])
    model.head.bias.data[1] = -100.0
    assert model.greedy_decode(source, 0, 1, 6).shape == (2, 6)
    assert model.greedy_decode(source[0], 0, 1, 6).shape == (6,)


@pytest.mark.parametrize("attention", WITH_ATTENTION)
def test_alignment_is_a_distribution_over_the_source_without_padding(attention):
    model, source, inputs, mask = build(attention)
    alignment = model.alignment(source, inputs, mask=mask)
    assert alignment.shape == (2, 4, 5)
    np.testing.assert_allclose(alignment.sum(axis=-1), 1.0, rtol=1e-12)
    assert not alignment[1, :, 3:].any()
    assert alignment[0].all()


class TestInvalidArguments:
    def test_unknown_attention_and_cell(self):
        with pytest.raises(ValueError, match="attention is 'self'; it must be one of none, additive, dot, general, co"):
            Seq2Seq(5, 5, 3, 4, "self")
        with pytest.raises(ValueError, match="cell is 'sru'; it must be one of rnn, gru, lstm"):
            Seq2Seq(5, 5, 3, 4, "none", "sru")
        with pytest.raises(ValueError, match="hidden_size is 0"):
            Seq2Seq(5, 5, 3, 0)

    def test_source_and_inputs(self):
        model, source, inputs, _ = build("dot")
        with pytest.raises(ValueError, match=r"inputs has shape \(2, 0\); each sequence must have at least 1 ids"):
            model(source, inputs[:, :0])
        with pytest.raises(ValueError, match="source is a single number"):
            model(3, inputs)
        with pytest.raises(IndexError, match=r"ids\[0, 0\] is 7; it must be in \[0, 7\)"):
            model(np.full((2, 5), 7), inputs)

    def test_greedy_decoding(self):
        model, source, _, _ = build("dot")
        with pytest.raises(IndexError, match="eos_id is 6; it must be in"):
            model.greedy_decode(source, 0, 6, 5)
        with pytest.raises(ValueError, match="max_length is 0"):
            model.greedy_decode(source, 0, 1, 0)

    def test_alignment_without_attention(self):
        model, source, inputs, _ = build("none")
        with pytest.raises(ValueError, match="the model has no alignment: attention is none"):
            model.alignment(source, inputs)

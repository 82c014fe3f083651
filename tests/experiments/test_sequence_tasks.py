import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from npllm.before_transformers import Seq2Seq
from npllm.experiments.sequence_tasks import (
    BOS_ID,
    EOS_ID,
    IGNORE_INDEX,
    TASKS,
    accuracy,
    copy_task,
    numbers_task,
    reverse_task,
    spell,
    train_seq2seq,
)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (7, "seven"),
        (13, "thirteen"),
        (20, "twenty"),
        (45, "forty five"),
        (100, "one hundred"),
        (305, "three hundred five"),
        (312, "three hundred twelve"),
        (1000, "one thousand"),
        (40_019, "forty thousand nineteen"),
        (999_999, "nine hundred ninety nine thousand nine hundred ninety nine"),
    ],
)
def test_numbers_in_words(number, words):
    assert spell(number) == words.split()


@given(st.integers(0, 999_999))
def test_the_words_can_be_read_back(number):
    """By an independent reader: each word adds to a number, multiplies it, or ends the thousands."""
    ones = [spell(n)[0] for n in range(20)]
    tens = {spell(10 * n)[0]: 10 * n for n in range(2, 10)}
    total = part = 0
    for word in spell(number):
        if word == "thousand":
            total, part = 1000 * part, 0
        elif word == "hundred":
            part *= 100
        else:
            part += tens[word] if word in tens else ones.index(word)
    assert total + part == number


def test_a_number_out_of_range_is_refused():
    with pytest.raises(ValueError, match="number is 1000000; it must be at least 0 and below 1,000,000"):
        spell(1_000_000)


def test_sources_and_targets_of_the_tasks():
    rng = np.random.default_rng(0)
    for _ in range(50):
        source, target = copy_task(2, 5).generate(rng)
        assert source == target
        assert 2 <= len(source) <= 5
        source, target = reverse_task(2, 5).generate(rng)
        assert source[::-1] == target
        source, target = numbers_task(4).generate(rng)
        assert source == spell(int("".join(target)))
        assert len(target) <= 4


@pytest.mark.parametrize("name", TASKS)
def test_batches_are_padded_and_shifted(name):
    task = TASKS[name]()
    batch, again = (task.batch(20, rng=np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(batch.source, again.source)
    assert batch.source.shape == batch.mask.shape
    assert batch.inputs.shape == batch.targets.shape
    assert (batch.inputs[:, 0] == BOS_ID).all()
    for inputs, targets in zip(batch.inputs, batch.targets):
        length = int((targets != IGNORE_INDEX).sum())
        assert targets[length - 1] == EOS_ID
        np.testing.assert_array_equal(inputs[1:length], targets[: length - 1])
        assert task.decode(targets) == [task.target_tokens[i] for i in targets[: length - 1]]
    for ids, mask in zip(batch.source, batch.mask):
        assert mask[: mask.sum()].all()
        assert not ids[~mask].any()


def test_decode_stops_at_eos():
    task = numbers_task()
    assert task.decode([5, 2, EOS_ID, 7]) == ["3", "0"]
    assert task.decode([5, 2]) == ["3", "0"]


def train(attention):
    """A model after 150 steps on sequences of 3 to 8 letters."""
    rng = np.random.default_rng(0)
    model = Seq2Seq(10, 12, 16, 48, attention, rng=rng)
    with threadpool_limits(1):  # the products are small: a second thread makes them slower
        losses = list(train_seq2seq(model, reverse_task(3, 8), 150, rng=rng, learning_rate=1e-2))
    assert losses[0] > 2.0
    return model


def validation_batch(length):
    """Drawn with another seed; of the 10 ** length sequences, training used at most 9,600."""
    return reverse_task(length, length).batch(200, rng=np.random.default_rng(12345))


@pytest.mark.parametrize("attention", ["additive", "general"])
def test_with_attention_sequences_of_every_length_are_reversed(attention):
    model = train(attention)
    for length, expected in ((4, 0.95), (6, 0.9), (8, 0.85)):
        assert accuracy(model, validation_batch(length)) > expected, length
    # the alignment is the antidiagonal
    batch, expected = validation_batch(8), np.arange(8)[::-1]
    positions = model.alignment(batch.source, batch.inputs)[:, :8].argmax(axis=-1)
    if attention == "general":
        assert (positions == expected).mean() > 0.85
    else:
        # additive attention is computed before the step, and often takes the neighbouring state, which also encodes
        # the letter: the encoder's states depend on all letters so far
        assert (np.abs(positions - expected) <= 1).mean() > 0.9


def test_without_attention_long_sequences_are_not_learned():
    model = train("none")
    assert accuracy(model, validation_batch(3)) > 0.8
    assert accuracy(model, validation_batch(6)) < 0.5
    assert accuracy(model, validation_batch(8)) < 0.1


def test_accuracy_is_the_fraction_of_sequences_without_an_error():
    batch = copy_task(2, 2).batch(4, rng=np.random.default_rng(0))

    class Correct:
        def greedy_decode(self, source, bos_id, eos_id, max_length, *, mask):
            assert (bos_id, eos_id, max_length) == (BOS_ID, EOS_ID, 3)
            return np.concatenate([source + 2, np.full((4, 1), EOS_ID)], axis=1)

    class OneError(Correct):
        def greedy_decode(self, *arguments, mask):
            generated = super().greedy_decode(*arguments, mask=mask)
            generated[0, 1] = EOS_ID
            return generated

    class Empty:
        def greedy_decode(self, source, *_, mask):
            return np.full((len(source), 1), EOS_ID)

    assert accuracy(Correct(), batch) == 1.0
    assert accuracy(OneError(), batch) == 0.75
    assert accuracy(Empty(), batch) == 0.0

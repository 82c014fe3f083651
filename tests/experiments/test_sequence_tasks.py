import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from npllm.before_transformers import Seq2Seq
from npllm.experiments.sequence_tasks import (
    BEGIN,
    END,
    NOT_COUNTED,
    TASKS,
    accuracy,
    copy_task,
    learn,
    numbers_task,
    reverse_task,
    spell,
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
def test_words_back_to_the_number(number):
    """A witness that reads the words: each adds, multiplies, or closes the thousands."""
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


def test_a_number_out_of_range():
    with pytest.raises(ValueError, match="number is 1000000; it must be at least 0 and below 1,000,000"):
        spell(1_000_000)


def test_what_the_tasks_ask():
    rng = np.random.default_rng(0)
    for _ in range(50):
        source, target = copy_task(2, 5).draw(rng)
        assert source == target
        assert 2 <= len(source) <= 5
        source, target = reverse_task(2, 5).draw(rng)
        assert source[::-1] == target
        source, target = numbers_task(4).draw(rng)
        assert source == spell(int("".join(target)))
        assert len(target) <= 4


@pytest.mark.parametrize("name", TASKS)
def test_batches(name):
    task = TASKS[name]()
    batch, again = (task.batch(np.random.default_rng(3), 20) for _ in range(2))
    np.testing.assert_array_equal(batch.source, again.source)
    assert batch.source.shape == batch.mask.shape
    assert batch.inputs.shape == batch.targets.shape
    assert (batch.inputs[:, 0] == BEGIN).all()
    for inputs, targets in zip(batch.inputs, batch.targets):
        length = int((targets != NOT_COUNTED).sum())
        assert targets[length - 1] == END
        np.testing.assert_array_equal(inputs[1:length], targets[: length - 1])
        assert task.decode(targets) == [task.target_tokens[i] for i in targets[: length - 1]]
    for ids, real in zip(batch.source, batch.mask):
        assert real[: real.sum()].all()
        assert not ids[~real].any()


def test_tokens_back():
    task = numbers_task()
    assert task.decode([5, 2, END, 7]) == ["3", "0"]
    assert task.decode([5, 2]) == ["3", "0"]


@pytest.fixture(scope="module")
def trained():
    """Three models after 250 steps on sequences of 3 to 8 letters, about two seconds each."""
    models = {}
    with threadpool_limits(1):  # the products are small: a second thread only gets in the way
        for attention in ("none", "additive", "general"):
            task, rng = reverse_task(3, 8), np.random.default_rng(0)
            model = Seq2Seq(10, 12, 16, 48, attention, rng=rng)
            losses = list(learn(model, task, 250, rng))
            assert losses[0] > 2.0
            models[attention] = model
    return models


def unseen(length):
    """Drawn from another seed; of the ten million of 7 letters and more, training saw a few thousand."""
    return reverse_task(length, length).batch(np.random.default_rng(12345), 200)


@pytest.mark.parametrize("attention", ["additive", "general"])
def test_with_attention_sequences_of_every_length_are_reversed(trained, attention):
    for length in (4, 6, 8):
        assert accuracy(trained[attention], unseen(length)) > 0.95, length


def test_without_attention_long_sequences_do_not_fit_into_one_state(trained):
    assert accuracy(trained["none"], unseen(3)) > 0.8, "what is short does fit"
    assert accuracy(trained["none"], unseen(6)) < 0.4
    assert accuracy(trained["none"], unseen(8)) < 0.1


def test_the_alignment_of_reversing_lies_on_the_other_diagonal(trained):
    batch = unseen(8)
    expected = np.arange(8)[::-1]
    places = trained["general"].alignment(batch.source, batch.inputs)[:, :8].argmax(axis=-1)
    assert (places == expected).mean() > 0.9
    # additive attention asks before the step, and at times prefers the state one letter on, which still knows it
    places = trained["additive"].alignment(batch.source, batch.inputs)[:, :8].argmax(axis=-1)
    assert (places == expected).mean() > 0.6
    assert (np.abs(places - expected) <= 1).mean() > 0.95


def test_accuracy_counts_whole_sequences():
    task = copy_task(2, 2)
    batch = task.batch(np.random.default_rng(0), 4)

    class Perfect:
        def greedy_decode(self, source, begin, end, max_length, *, mask):
            assert (begin, end, max_length) == (BEGIN, END, 3)
            return np.concatenate([source + 2, np.full((4, 1), END)], axis=1)

    class OneWrong(Perfect):
        def greedy_decode(self, *arguments, mask):
            written = super().greedy_decode(*arguments, mask=mask)
            written[0, 1] = END
            return written

    class Silent:
        def greedy_decode(self, source, *_, mask):
            return np.full((len(source), 1), END)

    assert accuracy(Perfect(), batch) == 1.0
    assert accuracy(OneWrong(), batch) == 0.75
    assert accuracy(Silent(), batch) == 0.0

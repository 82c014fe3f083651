import numpy as np
import pytest

from npllm.before_transformers import Seq2Seq
from npllm.experiments.equal_size import build_of_size
from npllm.experiments.recall import RecallTask, input_gradient, model_arguments, recall_accuracy
from npllm.models import Decoder, DecoderConfig

TASK = RecallTask(num_slots=3, num_values=5, length=9)


class Oracle:
    """Looks up the item of the asked slot; `first` is the first position that it sees."""

    def __init__(self, first=0):
        self.first = first

    def __call__(self, ids):
        logits = np.zeros((*ids.shape, TASK.num_values))
        for row, sequence in enumerate(ids):
            slot = sequence[-1] - TASK.num_slots * TASK.num_values
            for token in sequence[self.first : -1]:
                if token < TASK.num_slots * TASK.num_values and token // TASK.num_values == slot:
                    logits[row, -1, token % TASK.num_values] = 1.0
        return logits


def test_an_oracle_recalls_all_and_one_that_sees_no_distant_items_loses_them():
    for distance in (None, 1, 5, 9):
        assert recall_accuracy(TASK, Oracle(), 200, np.random.default_rng(0), distance) == 1.0
    rng = np.random.default_rng(0)
    assert recall_accuracy(TASK, Oracle(first=5), 200, rng, 4) == 1.0
    assert recall_accuracy(TASK, Oracle(first=5), 500, rng, 5) == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize("distance", [None, 1, 9])
def test_each_slot_has_one_item_and_the_question_is_last(distance):
    ids, values, positions = TASK.batch(100, np.random.default_rng(1), distance)
    items = ids[:, :-1] < 15
    assert (items.sum(axis=1) == 3).all()
    assert all(set(row[row < 15] // 5) == {0, 1, 2} for row in ids)
    slots = ids[:, -1] - 15
    np.testing.assert_array_equal(ids[np.arange(100), positions], 5 * slots + values)
    assert distance is None or (positions == 9 - distance).all()
    assert ids.max() < TASK.vocab_size and (ids[:, :-1][~items] >= 18).all()


def build_decoder(width, **options):
    return Decoder(DecoderConfig(TASK.vocab_size, TASK.length + 1, width, 1, tied=False), dtype="float64", **options)


def build_seq2seq(width, **options):
    return Seq2Seq(TASK.vocab_size, TASK.num_values, 6, width, "none", "gru", dtype="float64", **options)


@pytest.mark.parametrize("build", [build_decoder, build_seq2seq])
def test_the_gradient_is_that_of_the_asked_item(build):
    """The finite difference along the gradient of the item's embedding is its norm."""
    model = build(8, rng=np.random.default_rng(2))
    found = input_gradient(TASK, model, 1, np.random.default_rng(3), 4)
    ids, values, positions = TASK.batch(1, np.random.default_rng(3), 4)
    arguments = model_arguments(TASK, model, ids, values)
    weight = (model.source_embedding if isinstance(model, Seq2Seq) else model.embed_tokens).weight.data
    row, gradient = weight[ids[0, positions[0]]], []
    for channel in range(len(row)):
        losses = []
        for step in (1e-5, -2e-5):
            row[channel] += step
            losses.append(float(model.loss(*arguments)))
        row[channel] += 1e-5
        gradient.append((losses[0] - losses[1]) / 2e-5)
    assert found == pytest.approx(np.linalg.norm(gradient), rel=1e-4)


@pytest.mark.parametrize("target", [1000, 5000, 20_000])
def test_the_width_is_that_of_the_nearest_size(target):
    model = build_of_size(build_seq2seq, target, np.random.default_rng(0))
    sizes = [build_seq2seq(width, init=False).num_parameters() for width in range(1, 100)]
    assert abs(model.num_parameters() - target) == min(abs(size - target) for size in sizes)
    assert model.head.weight.data.any()

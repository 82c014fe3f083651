import numpy as np
import pytest

from npllm.experiments.frozen_embeddings import APART, NEXT_WORD, TABLES, UNSEEN, Scale, Task, judge, tasks, train
from npllm.layers.cross_entropy import cross_entropy
from npllm.models import GPT, GPTConfig
from tests.experiments.made_up import made_up

SCALE = Scale(1, 10, 10, 200, 4, 8)


def trained(task, table, num_steps, is_frozen):
    """The loss of a task with a given table of embeddings."""
    rng = np.random.default_rng(0)
    model = GPT(GPTConfig(len(task.corpus.words), 1, 8, num_layers=1, num_heads=2, tied=False), rng=rng)
    model.wte.weight.data[...] = table
    train(model, task, num_steps, is_frozen, rng)
    loss = float(cross_entropy(model(task.validation[0]), task.validation[1]))
    return loss, model


def test_a_table_with_the_planted_answer_needs_no_training():
    """The oracle: one channel is the label of the pair. Random vectors tell nothing about an unseen twin."""
    task = tasks(SCALE, np.random.default_rng(0))[UNSEEN]
    rng = np.random.default_rng(1)
    oracle = 0.001 * rng.standard_normal((len(task.corpus.words), 8))
    oracle[:8, 3] = np.where(np.arange(8) // 2 % 2 == 1, 0.1, -0.1)
    loss, model = trained(task, oracle, 150, True)
    assert loss < 0.1
    np.testing.assert_array_equal(model.wte.weight.data, oracle.astype(np.float32))
    random_loss, _ = trained(task, 0.02 * rng.standard_normal(oracle.shape), 150, True)
    assert random_loss > 0.5


def test_equal_vectors_of_twins_cannot_be_told_apart_unless_they_are_trained():
    task = tasks(SCALE, np.random.default_rng(0))[APART]
    table = np.repeat(0.02 * np.random.default_rng(1).standard_normal((len(task.corpus.words) // 2, 8)), 2, axis=0)
    frozen, _ = trained(task, table, 150, True)
    assert frozen > 0.69
    free, _ = trained(task, table + 0.001 * np.random.default_rng(2).standard_normal(table.shape), 300, False)
    assert free < 0.3


def test_training_and_validation_do_not_overlap():
    found = tasks(SCALE, np.random.default_rng(3))
    assert not set(found[UNSEEN].training[0].ravel()) & set(found[UNSEEN].validation[0].ravel())
    task = found[NEXT_WORD]
    assert isinstance(task, Task)
    np.testing.assert_array_equal(task.training[0][:, 1:], task.training[1][:, :-1])
    assert len(task.corpus.ids) == len(task.training[0]) + SCALE.length


@pytest.mark.parametrize(
    ("losses", "outcome"),
    [((0.1, 0.2, 0.3), "supported"), ((0.1, 2.0, 0.3), "depends"), ((1.5, 2.0, 3.0), "not supported")],
)
def test_the_judge(losses, outcome):
    rows = [
        (task, table, loss if table == "random, trained" else 1.0, 0.5)
        for task, loss in zip((APART, UNSEEN, NEXT_WORD), losses)
        for table in TABLES
    ]
    assert judge(made_up(("task", "embeddings"), ("loss", "accuracy"), *rows)).outcome == outcome

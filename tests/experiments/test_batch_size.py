import numpy as np
import pytest

from npllm.experiments.batch_size import EXPERIMENT, Scale, best_learning_rate, compare, judge
from npllm.experiments.experiment import Results


@pytest.mark.parametrize("scale", EXPERIMENT.scales.values())
def test_every_training_has_the_same_tokens(scale):
    assert all(scale.num_tokens % (size * scale.length) == 0 for size in scale.batch_sizes)


def test_where_no_gradient_is_noisy_more_steps_win():
    """Planted: every window of a periodic text gives nearly the same gradient, so a larger batch has no use."""
    scale = Scale(3, 4096, (2, 16), (3e-3,), length=16)
    ids = np.arange(1025) % 16
    rows = [{"seed": seed} | row for seed in range(3) for row in compare(scale, seed, ids, ids, 16)]
    results = Results(EXPERIMENT.keys, rows)
    assert [row["steps"] for row in rows[:2]] == [128, 16]
    assert judge(results).outcome == "supported"


def made_up(losses):
    """The learning rate 0.01 is chosen; the loss of the other one is lower but was not looked at."""
    return Results(
        EXPERIMENT.keys,
        [
            {"seed": seed, "batch size": size, "learning rate": rate}
            | {"selection loss": rate, "loss": loss + noise * size + (rate == 0.01) - 1.0}
            for seed, noise in enumerate((-0.001, 0.0, 0.001))
            for size, loss in zip((1, 2, 4), losses)
            for rate in (0.01, 0.1)
        ],
    )


@pytest.mark.parametrize(
    ("losses", "outcome"),
    [((1.0, 1.1, 1.2), "supported"), ((1.1, 1.0, 1.2), "depends"), ((1.2, 1.1, 1.0), "not supported")],
)
def test_the_verdict(losses, outcome):
    results = made_up(losses)
    assert best_learning_rate(results, 2) == 0.01
    assert judge(results).outcome == outcome

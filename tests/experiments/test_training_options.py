import numpy as np
import pytest

from npllm.experiments.experiment import Results
from npllm.experiments.training_options import NOTHING, OPTIONS, Scale, judge, losses

SCALE = Scale(2, 60, length=16, batch_size=8, d_model=32)


def run(without, scale=SCALE, rate=5e-3):
    """On random ids, which can be learned by heart only."""
    rng = np.random.default_rng(0)
    return losses(scale, 0, without, rate, rng.integers(0, 16, 129), rng.integers(0, 16, 513), 16)


def test_only_weight_tying_changes_the_number_of_parameters():
    scale = Scale(2, 1, length=16, batch_size=2)
    counts = {option: run(option, scale)["parameters"] for option in (NOTHING, *OPTIONS)}
    assert counts.pop("weight tying") == counts[NOTHING] + 16 * 32
    assert len(set(counts.values())) == 1


def test_each_option_changes_the_result():
    scale = Scale(2, 10, length=16, batch_size=2)
    results = [run(option, scale)["train loss"] for option in (NOTHING, *OPTIONS)]
    assert len(set(results)) == len(results)
    assert run(NOTHING, scale)["train loss"] == results[0]


def test_dropout_hinders_learning_by_heart():
    """Planted: nothing but noise is to be learned, so what lowers the training loss raises the validation loss."""
    scale = Scale(2, 200, length=16, batch_size=8, d_model=32)
    with_dropout, without = run(NOTHING, scale), run("dropout", scale)
    assert without["train loss"] < with_dropout["train loss"] < np.log(16)
    assert without["validation loss"] > with_dropout["validation loss"] > np.log(16)


def made_up(changes):
    return Results(
        ("learning rate", "without"),
        [
            {"seed": seed, "learning rate": 1e-3, "without": option, "validation loss": 2.0 + change + noise * factor}
            for seed, noise in enumerate((-0.01, 0.0, 0.01))
            for factor, (option, change) in enumerate(zip((NOTHING, *OPTIONS), (0.0, *changes)), 1)
        ],
    )


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ((0.2, 0.2, 0.2, 0.2, 0.2), "supported"),
        ((0.2, 0.0, -0.2, 0.2, 0.2), "depends"),
        ((0.0, 0.0, -0.2, 0.0, 0.0), "not supported"),
    ],
)
def test_the_verdict(changes, outcome):
    assert judge(made_up(changes)).outcome == outcome

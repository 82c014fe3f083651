import numpy as np
import pytest

from npllm.experiments.experiment import Results
from npllm.experiments.training_stride import EXPERIMENT, Scale, compare, epochs, judge, steps_of_epoch

BUDGETS = ("equal tokens", "equal epochs")


@pytest.mark.parametrize("stride", [32, 16, 8, 4])
def test_an_epoch_uses_each_token_as_often_as_the_stride_says(stride):
    scale = Scale(2, 1, batch_size=1)
    ids = np.arange(641)
    num_steps = steps_of_epoch(ids, scale, stride)
    used = np.bincount(
        np.concatenate([x.ravel() for x, _ in epochs(ids, scale, stride, num_steps, np.random.default_rng(0))])
    )
    assert (used[32:-64] == 32 // stride).all()
    first, second = np.array(
        [x[0, 0] for x, _ in epochs(ids, scale, stride, 2 * num_steps, np.random.default_rng(1))]
    ).reshape(2, -1)
    assert sorted(first) == sorted(second) == list(range(0, len(first) * stride, stride))


def test_the_gap_shows_planted_overfitting_and_its_absence():
    """Random ids can be learned by heart only; ids that are counted up are the same in both parts."""
    scale = Scale(2, 30, 257, (32, 16), batch_size=4, d_model=32, learning_rate=1e-2)
    rng = np.random.default_rng(0)
    noise = compare(scale, 0, rng.integers(0, 16, 257), rng.integers(0, 16, 1025), 16)
    counted = compare(scale, 0, np.arange(257) % 16, np.arange(1025) % 16, 16)
    for row in noise:
        if row["budget"] == "equal tokens":
            assert row["train loss"] < 2.5 and row["validation loss"] > np.log(16), row
    assert all(abs(row["gap"]) < 0.02 for row in counted)


def test_the_budgets():
    rows = EXPERIMENT.rows(EXPERIMENT.scales["miniature"], 0)
    tokens = {(row["budget"], row["stride"]): row["tokens"] for row in rows}
    assert tokens["equal tokens", 32] == tokens["equal tokens", 8] == tokens["equal epochs", 8]
    assert tokens["equal epochs", 8] / tokens["equal epochs", 32] == pytest.approx(4, abs=0.5)


def made_up(cost, gap, gap_of_epochs):
    return Results(
        ("budget", "stride"),
        [
            {"seed": seed, "budget": budget, "stride": stride, "validation loss": 2.0 + noise, "gap": 0.5 + noise}
            if stride == 32
            else {
                "seed": seed,
                "budget": budget,
                "stride": stride,
                "validation loss": 2.0 + cost + 2 * noise,
                "gap": 0.5 + (gap if budget == "equal tokens" else gap_of_epochs) + 2 * noise,
            }
            for seed, noise in enumerate((0.0, 0.01, 0.02))
            for budget in BUDGETS
            for stride in (32, 4)
        ],
    )


@pytest.mark.parametrize(
    ("differences", "outcome"),
    [
        ((0.1, 0.1, 0.1), "supported"),
        ((0.0, 0.1, 0.1), "depends"),
        ((-0.1, -0.1, 0.1), "depends"),
        ((-0.1, -0.1, 0.0), "not supported"),
    ],
)
def test_the_verdict(differences, outcome):
    assert judge(made_up(*[x - 0.01 for x in differences])).outcome == outcome

import pytest

from npllm.experiments.experiment import Results
from npllm.experiments.recall_distance import ATTENTION, EXPERIMENT, NUM_PARAMETERS, RECURRENT, Scale, rows


def results_of(accuracy, gradient):
    """Made-up results: `accuracy(model)` and `gradient(model)` at distance 32; at distance 2 both are 1."""
    return Results(
        EXPERIMENT.keys,
        [
            {"seed": seed, "model": name, "distance": distance, "accuracy": far or 1.0, "gradient": slope or 1.0}
            for seed in range(3)
            for name in (*RECURRENT, *ATTENTION)
            for distance, far, slope in ((2, None, None), (32, accuracy(name) + 0.01 * seed, gradient(name)))
        ],
    )


@pytest.mark.parametrize(
    ("accuracy", "gradient", "outcome"),
    [
        (lambda name: 0.1 if name in RECURRENT else 0.95, lambda name: 1e-6 if name in RECURRENT else 0.5, "supported"),
        (lambda name: 0.1 if name in RECURRENT else 0.95, lambda name: 0.5, "depends"),
        (lambda name: 0.95, lambda name: 1e-6 if name in RECURRENT else 0.5, "not supported"),
        (lambda name: 0.1, lambda name: 1e-6 if name in RECURRENT else 0.5, "not supported"),
        (lambda name: 0.8 if name in RECURRENT else 0.95, lambda name: 0.5, "depends"),
    ],
)
def test_outcomes(accuracy, gradient, outcome):
    assert EXPERIMENT.judge(results_of(accuracy, gradient)).outcome == outcome


def test_the_models_have_equal_sizes():
    for row in rows(Scale(1, 0, (2, 8), num_examples=10, num_gradients=1), 0):
        assert row["parameters"] == pytest.approx(NUM_PARAMETERS, rel=0.03), row

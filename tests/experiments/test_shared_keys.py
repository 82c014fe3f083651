import numpy as np
import pytest

from npllm.experiments.experiment import Results
from npllm.experiments.shared_keys import ATTENTION, CONTROLS, EXPERIMENT, TASK, build, cache_bytes, judge


def test_parameters_are_equal_and_the_cache_has_the_planted_sizes():
    models = {name: build(name, 1, np.random.default_rng(0)) for name in ATTENTION}
    sizes = [model.num_parameters() for model in models.values()]
    assert max(sizes) - min(sizes) < 0.005 * min(sizes)
    inputs, _ = TASK.batch(1, np.random.default_rng(0))
    measured = [cache_bytes(model, inputs[0]) for model in models.values()]
    assert measured == [4 * numbers for numbers in (128, 32, 16, 32, 16, 32, 16)]  # 2 K D, or the latent


@pytest.mark.parametrize(
    ("shared", "controls", "outcome"),
    [(0.0, 1.0, "supported"), (0.2, 0.0, "not supported"), (0.05, 0.0, "depends")],
)
def test_the_rule(shared, controls, outcome):
    rows = []
    for seed in range(3):
        for name in ATTENTION:
            excess = 0.0 if name == "multi-head" else controls if name in CONTROLS else shared
            loss = 1.0 + 0.3 * seed + excess + 0.01 * seed * (name != "multi-head")
            rows.append({"seed": seed, "attention": name, "model": "decoder", "cache bytes": 1.0, "loss": loss})
    assert judge(Results(EXPERIMENT.keys, rows)).outcome == outcome

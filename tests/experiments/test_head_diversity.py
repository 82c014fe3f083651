import math

import numpy as np
import pytest

from npllm.experiments.experiment import Results
from npllm.experiments.head_diversity import EXPERIMENT, TASKS, judge, map_distance, removal_costs
from npllm.experiments.lookup_task import IGNORE_INDEX, LookupTask
from npllm.models import GPT, GPTConfig


def test_distance_of_planted_maps():
    own, first = np.eye(5), np.eye(5)[np.zeros(5, int)]
    assert map_distance(np.stack([own, own])) == 0.0
    assert map_distance(np.stack([own, first])) == pytest.approx(4 / 5)  # disjoint but for the first query
    assert map_distance(own[None]) == 0.0
    both = 0.5 * (own[1:] + first[1:])  # shares half of its weight with each: 3/2 − (3/4) log2 3 bits
    expected = 1.5 - 0.75 * math.log2(3)
    assert map_distance(np.stack([own[1:], both])) == pytest.approx(expected)
    assert map_distance(np.stack([own[1:], own[1:], first[1:]])) == pytest.approx(2 / 3)


def test_removing_a_planted_head():
    """A head without an output costs nothing; the cost of another is that of a loss computed without it."""
    rng = np.random.default_rng(0)
    model = GPT(GPTConfig(9, 6, d_model=12, num_layers=2, num_heads=3), rng=rng)
    batch = tuple(rng.integers(0, 9, (2, 4, 6)))
    for _, parameter in model.named_parameters():
        parameter.data *= 5
    weight = model.h[1].attn.c_proj.weight.data
    weight[:, 4:8] = 0
    before = model.state_dict()["h.0.attn.c_proj.weight"].copy()
    costs = removal_costs(model, batch)
    np.testing.assert_array_equal(model.state_dict()["h.0.attn.c_proj.weight"], before)
    assert costs.shape == (2, 3)
    assert costs[1, 1] == 0.0 and np.abs(np.delete(costs, 4)).min() > 0
    whole = float(model.loss(*batch))
    weight[:, :4] = 0
    assert costs[1, 0] == pytest.approx(float(model.loss(*batch)) - whole)


def test_the_targets_of_the_lookups():
    task = LookupTask()
    inputs, targets = task.batch(5, np.random.default_rng(0))
    table = task.table()
    assert (targets[:, :3] == IGNORE_INDEX).all()
    for t in range(3, task.length):
        assert [table[a, b] for a, b in zip(inputs[:, t - 1], inputs[:, t - 3])] == targets[:, t].tolist()
    assert len({tuple(row) for row in table}) == task.num_tokens  # both tokens are needed
    assert len({tuple(column) for column in table.T}) == task.num_tokens


@pytest.mark.parametrize(
    ("distances", "losses", "least", "outcome"),
    [
        ((0.5, 0.5), (2.0, 1.0), 0.1, "supported"),
        ((0.5, 0.5), (1.0, 1.0), 0.1, "depends"),
        ((0.5, 0.5), (2.0, 1.0), 0.0, "depends"),
        ((0.5, 0.0), (2.0, 1.0), 0.1, "depends"),
        ((0.0, 0.0), (2.0, 1.0), 0.1, "not supported"),
    ],
)
def test_the_rule(distances, losses, least, outcome):
    rows = [
        {"seed": seed, "task": task, "heads": heads, "loss": loss + 0.01 * seed * heads, "distance": distance}
        | {"untrained distance": 0.0, "mean cost": 0.3, "least cost": least + 0.001 * seed * least}
        | {"greatest cost": 0.5}
        for seed in range(3)
        for task, distance in zip(TASKS, distances)
        for heads, loss in zip((1, 4), losses)
    ]
    assert judge(Results(EXPERIMENT.keys, rows)).outcome == outcome

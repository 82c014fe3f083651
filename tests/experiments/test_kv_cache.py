import numpy as np
import pytest

from npllm.experiments.experiment import Results
from npllm.experiments.kv_cache import EXPERIMENT, generate, judge, step_operations
from npllm.inspect.cost import count_operations
from npllm.models import GPT, GPTConfig

CONFIG = GPTConfig(10, 24, d_model=8, num_layers=2, num_heads=2)


def test_the_operations_of_a_whole_sequence_are_those_of_the_cost_file():
    whole = count_operations(CONFIG, 1, 7)
    assert step_operations(CONFIG, 7, 7) == whole["forward"] - whole["head"] * 6 // 7


def test_generation_computes_each_position_once_or_in_every_step():
    model = GPT(CONFIG, rng=np.random.default_rng(0))
    ids, with_cache = generate(model, (3, 24), 5, True)
    same_ids, without = generate(model, (3, 24), 5, False)
    assert ids == same_ids and len(ids) == 24
    assert [row["positions"] for row in with_cache] == [2, 23]
    assert [row["positions"] for row in without] == [1 + 2, 23 * 24 // 2]
    numbers = 2 * CONFIG.num_layers * CONFIG.d_model  # of a position: its keys and values
    assert [row["cache bytes"] for row in with_cache] == [2 * numbers * 4, 23 * numbers * 4]
    for row in without:
        assert row["operations"] == sum(step_operations(CONFIG, n, n) for n in range(1, row["T"]))


@pytest.mark.parametrize(
    ("with_cache", "without", "outcome"),
    [(1.0, 2.0, "supported"), (1.5, 2.5, "depends"), (1.0, 1.6, "depends"), (2.0, 2.0, "not supported")],
)
def test_the_rule(with_cache, without, outcome):
    rows = [
        {"seed": seed, "form": form, "C": 8, "T": T, "positions": T**power, "operations": T**power, "seconds": T}
        for seed in range(3)
        for form, power in (("with cache", with_cache), ("without cache", without))
        for T in (16, 64, 256)
    ]
    assert judge(Results(EXPERIMENT.keys, rows)).outcome == outcome

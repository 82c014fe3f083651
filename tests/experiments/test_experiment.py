from dataclasses import dataclass

import numpy as np
import pytest

from npllm.experiments.experiment import Experiment, Plot, Results, Verdict


@dataclass(frozen=True)
class Scale:
    num_seeds: int
    effect: float


def planted(scale, seed):
    """A quantity that grows as the square of the size, plus an effect of the model and noise of the seed."""
    noise = np.random.default_rng(seed).normal()
    return [
        {"model": model, "size": size, "loss": size**2 * np.exp(0.01 * noise) + effect + 100 * noise}
        for model, effect in (("a", 0.0), ("b", scale.effect))
        for size in (1, 2, 4)
    ] + [{"model": "c", "size": size, "loss": size**2 * np.exp(0.01 * noise)} for size in (1, 2, 4)]


def judge(results):
    difference = results.difference("loss", {"model": "b", "size": 1}, {"model": "a", "size": 1})
    return Verdict("supported" if difference.is_above(0) else "not supported", f"{difference}")


def experiment(effect):
    scales = {"default": Scale(5, effect), "full": Scale(7, effect)}
    return Experiment(
        "planted", "", "", "", "", "", ("model", "size"), scales, planted, judge, (Plot("size", "loss", "model"),)
    )


def test_a_planted_effect_is_found_although_seeds_differ_more():
    small = experiment(0.5)
    assert judge(small.run()).outcome == "supported"
    results = small.run()
    assert results.interval("loss", model="a", size=1).low < 0 < results.interval("loss", model="a", size=1).high


@pytest.mark.parametrize("effect", [0.0, -0.5])
def test_no_effect_is_not_supported(effect):
    assert judge(experiment(effect).run()).outcome == "not supported"


def test_the_planted_slope():
    slope = experiment(0.0).run().slope("loss", "size", model="c")
    assert slope.mean == pytest.approx(2.0) and slope.low <= 2.0 <= slope.high


def test_seeds_and_scales():
    results = experiment(0.5).run("full", seed=3)
    assert results.distinct("seed") == list(range(3, 10))
    np.testing.assert_array_equal(
        results.values("loss", model="c", size=2)[0],
        experiment(0.5).run("default", 3).values("loss", model="c", size=2)[0],
    )
    with pytest.raises(ValueError, match="scale is 'huge'"):
        experiment(0.5).run("huge")


def test_each_seed_has_one_row():
    results = Results(("model",), [{"seed": 0, "model": "a", "loss": 1.0}, {"seed": 0, "model": "a", "loss": 2.0}])
    with pytest.raises(KeyError, match="2 rows"):
        results.values("loss", model="a")
    with pytest.raises(KeyError, match="0 rows"):
        results.values("loss", model="b")


def test_the_table_has_a_row_for_each_combination():
    table = experiment(0.5).run().table()
    assert [(row["model"], row["size"]) for row in table] == [(m, s) for m in "abc" for s in (1, 2, 4)]
    assert table[-1]["loss"].mean == pytest.approx(16, rel=0.02)

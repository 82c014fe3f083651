import numpy as np
import pytest

from npllm.experiments import published_layers, published_positions, published_quantization
from npllm.experiments.published_layers import induction_score, layers, lens_loss, sink_share
from npllm.experiments.published_model import RANDOM, TINY, passages, subject, with_random_weights
from npllm.experiments.published_quantization import BLOCKS, WHOLE_ROWS, quantize, quantized
from tests.experiments.made_up import made_up


def test_a_planted_sink_and_a_planted_induction_head():
    n = 8
    weights = np.full((1, 3, 2 * n, 2 * n), 0.01)
    weights[0, 1, :, 0] = 0.9
    assert sink_share(weights) == pytest.approx((0.9 + 0.02) / 3)
    for i in range(n - 1):
        weights[0, 2, n + i, i + 1] = 0.8
    assert induction_score(weights) == pytest.approx(0.8)


def test_layers_are_those_of_the_model():
    name, model, ids = subject(None)
    assert name == TINY
    inputs, targets = passages(ids, 1, 12, np.random.default_rng(0))
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    *_, (weights, x) = layers(model, inputs)
    np.testing.assert_allclose(model.norm(x), model.hidden_states(inputs), rtol=1e-5, atol=1e-6)
    assert lens_loss(model, x, targets) == pytest.approx(float(model.loss(inputs, targets)), rel=1e-5)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
    assert np.triu(weights[0, 0], 1).max() == 0.0


def test_another_model_has_the_same_shape_and_other_weights():
    _, model, _ = subject(None)
    other = with_random_weights(model, 1)
    assert other.config == model.config
    assert not np.array_equal(other.lm_head.weight.data, model.lm_head.weight.data)


def test_weights_on_the_grid_are_kept_and_others_move_half_a_step():
    rng = np.random.default_rng(0)
    grid = rng.integers(-7, 8, (4, 64)) * 0.5
    grid[:, ::32] = 3.5
    np.testing.assert_allclose(quantize(grid, 4, 32), grid)
    weight = rng.standard_normal((4, 64)).astype(np.float32)
    for group, size in ((32, 32), (None, 64), (48, 64)):
        rounded = quantize(weight, 4, group)
        step = np.abs(weight.reshape(-1, size)).max(axis=1, keepdims=True) / 7
        assert rounded.dtype == np.float32
        assert (np.abs(rounded - weight).reshape(-1, size) <= step * 0.5001).all()
        assert max(len(np.unique(row)) for row in rounded.reshape(-1, size)) <= 15
    assert not quantize(np.zeros((2, 32)), 4, 32).any()


def test_the_weights_are_restored():
    _, model, _ = subject(None)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    with pytest.raises(KeyError), quantized(model, 2, None):
        assert any((value != before[name]).any() for name, value in model.state_dict().items())
        raise KeyError
    assert all((value == before[name]).all() for name, value in model.state_dict().items())


def test_a_model_that_is_not_at_hand_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("NPLLM_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for experiment in (published_layers, published_positions, published_quantization):
        with pytest.raises(FileNotFoundError, match="model is 'smollm2', which was not found: `npllm models fetch"):
            experiment.EXPERIMENT.run("default")


@pytest.mark.parametrize(
    ("sink", "induction", "last", "outcome"),
    [(0.6, 0.7, 3.0, "supported"), (0.6, 0.1, 3.0, "depends"), (0.1, 0.1, 6.0, "not supported")],
)
def test_the_judge_of_layers(sink, induction, last, outcome):
    table = [("m", n, sink, induction, loss) for n, loss in ((1, 6.0), (2, 5.0), (3, 4.0), (4, last))]
    table += [(RANDOM, n, 0.02, 0.02, 10.0) for n in range(1, 5)]
    results = made_up(("model", "layer"), ("first token", "induction", "lens loss"), *table)
    verdict = published_layers.judge(results)
    assert verdict.outcome == outcome and verdict.because.startswith("With m")


@pytest.mark.parametrize(
    ("blocks", "whole", "outcome"),
    [(0.1, 0.5, "supported"), (0.1, 0.1, "depends"), (0.8, 0.9, "depends"), (0.9, 0.9, "not supported")],
)
def test_the_judge_of_quantization(blocks, whole, outcome):
    table = [("m", grid, b, cost, 3.0) for grid, cost in ((BLOCKS, blocks), (WHOLE_ROWS, whole)) for b in (8, 4)]
    results = made_up(("model", "grid", "bits"), ("cost", "loss before"), *table)
    assert published_quantization.judge(results).outcome == outcome


@pytest.mark.parametrize(
    ("losses", "outcome"),
    [((5, 4, 3, 2), "supported"), ((5, 4, 3, 3.5), "depends"), ((5, 4, 3, 6), "not supported")],
)
def test_the_judge_of_positions(losses, outcome):
    written = [("m", "as written", position, loss) for position, loss in zip((4, 8, 16, 32), losses)]
    shuffled = [("m", "shuffled", position, 9.0) for position in (4, 8, 16, 32)]
    results = made_up(("model", "order", "position"), ("loss",), *written, *shuffled)
    assert published_positions.judge(results).outcome == outcome

import numpy as np
import pytest

from npllm.experiments.experiment import Results
from npllm.experiments.shortcuts import EXPERIMENT, KINDS, Model, block_gradients, judge, unigram_entropy
from npllm.models import GPT, GPTConfig

CONFIG = GPTConfig(11, 8, d_model=12, num_layers=3, num_heads=2, tied=False)


def batch(rng):
    return rng.integers(0, CONFIG.vocab_size, (2, 4, CONFIG.context_length))


def test_pre_norm_is_the_block_of_gpt():
    rng = np.random.default_rng(0)
    model, gpt = Model("pre-norm", CONFIG, rng), GPT(CONFIG, rng=rng)
    gpt.load_state_dict(model.state_dict())
    inputs, targets = batch(rng)
    assert model.add_loss_gradients(inputs, targets) == gpt.add_loss_gradients(inputs, targets)
    for (name, parameter), (_, expected) in zip(model.named_parameters(), gpt.named_parameters()):
        np.testing.assert_array_equal(parameter.grad, expected.grad, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    rng = np.random.default_rng(0)
    model = Model(kind, CONFIG, rng)
    for _, parameter in model.named_parameters():
        parameter.data = parameter.data.astype(np.float64)
    inputs, targets = batch(rng)
    model.add_loss_gradients(inputs, targets)
    for name in ("h.0.attn.c_attn.weight", "h.1.mlp.c_fc.weight", "wte.weight"):
        parameter = dict(model.named_parameters())[name]
        direction = rng.standard_normal(parameter.shape)
        losses = []
        for sign in (1, -1):
            parameter.data += sign * 1e-5 * direction
            losses.append(float(model.loss(inputs, targets)))
            parameter.data -= sign * 1e-5 * direction
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx((parameter.grad * direction).sum(), rel=1e-5, abs=1e-9)


def test_planted_gradients():
    """Equal blocks that add 0 to the residual stream have equal gradients; without the shortcut nothing comes back."""
    rng = np.random.default_rng(0)
    for kind, expected in (("no norm", [1.0, 1.0, 1.0]), ("no norm, no shortcut", [0.0, 0.0, 0.0])):
        model = Model(kind, CONFIG, rng)
        for block in model.h:
            block.load_state_dict(model.h[0].state_dict())
            block.attn.c_proj.weight.data[...] = block.mlp.c_proj.weight.data[...] = 0
        gradients = block_gradients(model, *batch(rng))
        if kind == "no norm":
            np.testing.assert_allclose(gradients / gradients[0], expected, rtol=1e-5)
        else:
            assert gradients[0] == 0 and gradients[-1] > 0  # the last bias has a gradient


def test_all_kinds_have_the_same_weights_and_the_entropy_is_below_that_of_a_uniform_distribution():
    states = [Model(kind, CONFIG, np.random.default_rng(1)).state_dict() for kind in KINDS]
    for state in states[1:]:
        assert all(np.array_equal(state[name], states[0][name]) for name in states[0])
    assert 2.5 < unigram_entropy() < 3.5


@pytest.mark.parametrize(
    ("gradients", "losses", "outcome"),
    [
        ((0.0, 0.0, 0.0, -4.0, -4.0), (2.0, 2.5, 2.0, 3.0, 3.0), "supported"),
        ((0.0, 0.0, 0.0, -4.0, -4.0), (2.5, 2.0, 2.5, 3.0, 3.0), "depends"),  # post-norm is better
        ((0.0, 0.0, 0.0, 0.0, -4.0), (2.0, 2.5, 2.0, 2.0, 3.0), "depends"),
        ((0.0, 0.0, 0.0, 0.0, 0.0), (2.0, 2.5, 2.0, 2.0, 2.0), "not supported"),
    ],
)
def test_the_rule(gradients, losses, outcome):
    rows = [
        {"seed": seed, "model": kind, "depth": 8, "log10 gradient": gradient + 0.01 * seed, "loss": loss + 0.01 * seed}
        for seed in range(3)
        for kind, gradient, loss in zip(KINDS, gradients, losses)
    ]
    assert judge(Results(EXPERIMENT.keys, rows)).outcome == outcome

import numpy as np
import pytest

from npllm.experiments.experiment import Results
from npllm.experiments.positions import FORMS, IGNORED, NUM_SYMBOLS, RANGES, build, evaluate, judge, order_batches
from npllm.experiments.small_training import train


def logits_of_last(model, ids):
    return model(ids[None])[0, -1]


@pytest.mark.parametrize("form", FORMS)
def test_one_layer_without_positions_cannot_tell_order_and_all_others_can(form):
    rng = np.random.default_rng(0)
    model = build(form, NUM_SYMBOLS, 16, rng)
    for _, parameter in model.named_parameters():  # larger weights, so that a difference is not a rounding error
        if parameter.data.ndim == 2:
            parameter.data[...] = rng.normal(0, 0.3, parameter.shape)
    ids = np.arange(16) % NUM_SYMBOLS
    permuted = np.append(rng.permutation(ids[:-1]), ids[-1])
    difference = np.abs(logits_of_last(model, ids) - logits_of_last(model, permuted)).max()
    assert difference < 1e-4 if form == "none, 1 layer" else difference > 1e-3


def test_an_oracle_solves_the_order_task_at_every_length():
    inputs, targets = next(order_batches(64, 20, 1, np.random.default_rng(0)))

    def oracle(ids):
        before = np.concatenate([ids[:, :1], ids[:, :-1]], axis=1)
        return 50.0 * np.eye(NUM_SYMBOLS)[before]

    assert (targets[:, 0] == IGNORED).all()
    for row in evaluate(oracle, inputs, targets):
        assert row["accuracy"] == 1.0 and row["loss"] < 1e-6


def test_positions_make_the_task_easy():
    rng = np.random.default_rng(0)
    model = build("RoPE", NUM_SYMBOLS, 16, rng)
    train(model, order_batches(16, 32, 200, rng), 200, 7e-3, warmup_steps=20)
    windows = next(order_batches(64, 32, 1, np.random.default_rng(1)))
    assert evaluate(model, *windows)[0]["accuracy"] > 0.95


def test_the_number_of_parameters_is_about_the_same():
    counts = {form: build(form, 77, 32, np.random.default_rng(0)).num_parameters() for form in FORMS}
    assert counts["learned"] == counts["none"] + 128 * 32
    for form in FORMS:
        if form != "learned":
            assert counts[form] == pytest.approx(counts["none"], rel=0.02)


@pytest.mark.parametrize(
    ("accuracy", "spread", "outcome"),
    [
        (0.3, 0.002, "supported"),
        (0.7, 0.002, "depends"),
        (0.99, 0.002, "not supported"),
        (0.6, 0.2, "depends"),  # the seeds differ so much that the difference may be below or above the bound
        (0.3, 0.2, "depends"),
    ],
)
def test_the_verdict(accuracy, spread, outcome):
    accuracies = dict.fromkeys(FORMS, 1.0) | {"none, 1 layer": 0.3, "none": accuracy}
    rows = [
        {"seed": seed, "task": task, "positions": form, "range": name, "loss": 1.0 + 0.001 * seed}
        | {"accuracy": accuracies[form] + (seed - 1) * spread * (form == "none")}
        for seed in range(3)
        for task in ("previous symbol", "text")
        for form in FORMS
        for name in RANGES
    ]
    assert judge(Results(("task", "positions", "range"), rows)).outcome == outcome

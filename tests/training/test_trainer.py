import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from npllm.batching import WindowDataset
from npllm.models import GPT, GPTConfig
from npllm.training import Trainer, TrainingSettings, evaluate, is_matrix, load_checkpoint, save_checkpoint
from tests.equivalence.harness import twin
from tests.fingerprint import fingerprint

CONFIG = GPTConfig(vocab_size=13, context_length=8, d_model=12, num_layers=2, num_heads=3)
RULE = np.cumsum(np.random.default_rng(0).integers(1, 3, 400)) % 13  # each id is the one before plus 1 or 2


def trainer(dtype="float32", config=CONFIG, **changes):
    settings = TrainingSettings(
        **({"num_steps": 30, "batch_size": 4, "warmup_steps": 5, "eval_interval": 10} | changes)
    )
    model = GPT(config, rng=np.random.default_rng(1), dtype=dtype)
    return Trainer(model, WindowDataset(RULE[:300], 8, 1), WindowDataset(RULE[300:], 8, 8), settings)


def test_it_learns_a_rule_to_its_limit():
    found = trainer(num_steps=400, learning_rate=1e-2, min_learning_rate=1e-4)
    reports = []
    found.run([lambda _, report: reports.append(report)])
    assert [report.step for report in reports] == list(range(400))
    assert reports[0].loss == pytest.approx(np.log(13), abs=0.1)
    assert found.evaluate() < np.log(2) + 0.25, "who knows the rule is in doubt between two"
    assert [report.step for report in reports if report.validation_loss is not None] == list(range(0, 400, 10))
    assert reports[0].perplexity == pytest.approx(np.exp(reports[0].validation_loss))
    assert reports[3].perplexity is None
    assert reports[0].tokens == 32


@settings(max_examples=10)
@given(st.integers(1, 4), st.booleans())
def test_accumulated_gradients_are_those_of_the_large_batch(grad_accum_steps, with_ignored):
    whole, parts = trainer("float64"), trainer("float64", grad_accum_steps=grad_accum_steps)
    inputs, targets = next(whole.batches)
    if with_ignored:
        targets[0, 2:] = -100  # the parts then count differently
    assert parts.accumulate_gradient(inputs, targets) == pytest.approx(whole.accumulate_gradient(inputs, targets))
    for (name, one), (_, other) in zip(whole.model.named_parameters(), parts.model.named_parameters()):
        np.testing.assert_allclose(one.grad, other.grad, rtol=1e-9, atol=1e-13, err_msg=name)


def test_parts_in_which_nothing_counts_are_passed_over():
    found = trainer("float64", grad_accum_steps=2)
    inputs, targets = next(found.batches)
    targets[:2] = -100
    loss = found.accumulate_gradient(inputs, targets)
    assert loss == pytest.approx(float(found.model.loss(inputs[2:], targets[2:])))
    with pytest.raises(ValueError, match="targets has nothing but -100"):
        found.accumulate_gradient(inputs, np.full_like(targets, -100))


def test_evaluation_counts_every_target_once():
    found = trainer("float64")
    data = found.validation
    inputs, targets = data[np.arange(len(data))]
    assert evaluate(found.model, data, 5) == pytest.approx(float(found.model.loss(inputs, targets)))
    assert evaluate(found.model, data, 5, 3) == pytest.approx(float(found.model.loss(inputs[:3], targets[:3])))
    without = Trainer(found.model, found.batches.dataset, None, TrainingSettings(batch_size=4))
    assert without.evaluate() is None
    assert without.step().validation_loss is None


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", None)])
def test_200_steps_are_those_of_pytorch(dtype, tolerance):
    """The same start and the same batches: the same loss curve and weights as torch.optim.AdamW.

    In float32 rounding grows from step to step, whoever rounds; so npllm may be as far from PyTorch as PyTorch is from
    itself when it adds up the batch in another order.
    """
    ours = trainer(dtype, num_steps=200, learning_rate=3e-3)
    runs = [_torch_run(trainer(dtype, num_steps=200, learning_rate=3e-3), order) for order in (1, -1)]
    losses = []
    ours.run([lambda _, report: losses.append(report.loss)])
    (theirs, weights), (again, weights_again) = runs
    state = {name: parameter.data for name, parameter in ours.model.named_parameters()}
    if tolerance is None:
        spread = np.abs(np.array(theirs) - again).max()
        assert np.abs(np.array(losses) - theirs).max() <= 5 * spread + 1e-6
        apart = max(np.abs(weights[name] - weights_again[name]).max() for name in state)
        assert max(np.abs(state[name] - weights[name]).max() for name in state) <= 5 * apart + 1e-6
    else:
        np.testing.assert_allclose(losses, theirs, rtol=tolerance, atol=tolerance)
        for name, array in state.items():
            np.testing.assert_allclose(array, weights[name], rtol=tolerance, atol=tolerance, err_msg=name)
    assert losses[-1] < losses[0] - 0.5


def _torch_run(start, order):
    """The same training in PyTorch, written out; `order` −1 turns every batch around."""
    model = twin("GPT")(start.model.config).to(getattr(torch, start.model.wte.weight.data.dtype.name))
    model.load_state_dict({name: torch.tensor(array) for name, array in start.model.state_dict().items()})
    s = start.settings
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": s.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer, losses = torch.optim.AdamW(groups, betas=s.betas), []
    for step in range(s.num_steps):
        inputs, targets = (torch.tensor(array[::order].copy()) for array in next(start.batches))
        optimizer.zero_grad()
        loss = model.loss(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), s.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = s.learning_rate_of(step)
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


DROPPING = GPTConfig(13, 8, 12, 2, 3, embedding_dropout=0.1, attention_dropout=0.2, residual_dropout=0.1)


@settings(max_examples=8)
@given(st.integers(0, 19), st.booleans())
def test_resumed_training_is_equal_to_the_last_bit(tmp_path_factory, cut, dropout):
    options = {"num_steps": 20, "config": DROPPING if dropout else CONFIG}
    whole, first, second = (trainer(**options) for _ in range(3))
    whole.run()
    first.run(should_stop=lambda: first.steps_done >= cut)
    path = tmp_path_factory.mktemp("run") / "checkpoint"
    save_checkpoint(path, *first.state())
    second.run(should_stop=lambda: second.steps_done >= 7)  # whatever it was before is forgotten
    second.load_state(*load_checkpoint(path))
    second.run()
    fingerprints = []
    for finished in (whole, second):
        save_checkpoint(path, *finished.state())
        fingerprints.append(fingerprint(path))
    assert fingerprints[0] == fingerprints[1]


def test_a_state_that_does_not_fit_changes_nothing():
    found = trainer()
    before = {name: array.copy() for name, array in found.state()[0].items()}
    arrays, numbers = trainer(config=GPTConfig(13, 8, 24, 2, 3)).state()
    with pytest.raises(ValueError, match="has shape .* it must be"):
        found.load_state(arrays, numbers)
    arrays, numbers = trainer(config=GPTConfig(13, 8, 12, 1, 3)).state()
    with pytest.raises(KeyError, match="does not fit the model"):
        found.load_state(arrays, numbers)
    for name, array in found.state()[0].items():
        np.testing.assert_array_equal(array, before[name])


def test_biases_and_norms_do_not_decay():
    found = trainer()
    decaying = found.optimizer.decaying
    assert all(is_matrix(name, p) == (name in decaying) for name, p in found.model.named_parameters())
    assert "h.0.ln_1.weight" not in decaying
    assert "h.0.attn.c_attn.bias" not in decaying
    assert "wte.weight" in decaying


class TestCheckpoint:
    def test_foreign_and_damaged_files_are_refused(self, tmp_path):
        from npllm.weights import safetensors

        path = tmp_path / "c"
        with pytest.raises(FileNotFoundError):
            load_checkpoint(path)
        path.write_bytes(b"\x80\x04\x95pickle" * 9)
        with pytest.raises(ValueError, match="no safetensors file"):
            load_checkpoint(path)
        safetensors.save(path, {"w": np.ones(3)})
        with pytest.raises(ValueError, match="is no checkpoint of npllm"):
            load_checkpoint(path)
        safetensors.save(path, {}, {"format": "npllm checkpoint", "version": "1", "numbers": "{"})
        with pytest.raises(ValueError, match="its numbers cannot be read"):
            load_checkpoint(path)

    @settings(max_examples=20)
    @given(st.data())
    def test_a_file_cut_anywhere_is_refused(self, tmp_path_factory, data):
        path = tmp_path_factory.mktemp("run") / "c"
        save_checkpoint(path, *trainer().state())
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(ValueError, match=str(path)):
            load_checkpoint(path)

    def test_numbers_survive(self, tmp_path):
        arrays, numbers = trainer().state()
        save_checkpoint(tmp_path / "c", arrays, numbers)
        found, again = load_checkpoint(tmp_path / "c")
        assert again == json.loads(json.dumps(numbers))
        assert list(found) == list(arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0; it must be at least 1"),
        ({"grad_accum_steps": 5}, "grad_accum_steps is 5; it must be at most batch_size, 4"),
        ({"learning_rate": 1e-5}, "floor is 0.0001 and peak 1e-05"),
        ({"batch_size": 10_000}, "batch_size is 10000; it must be at least 1 and at most 292"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(**changes)

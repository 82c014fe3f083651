import importlib
import json
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from npllm.batching import WindowDataset
from npllm.models import GPT, Decoder, DecoderConfig, GPTConfig
from npllm.models.recompute import input_only_forward
from npllm.training import Trainer, TrainingConfig, decays_weight, evaluate, load_checkpoint, save_checkpoint
from npllm.training.step import accumulate_gradients
from npllm.training.trainer import split_batch
from tests.equivalence import torch_reference
from tests.fingerprint import fingerprint

CONFIG = GPTConfig(vocab_size=13, context_length=8, d_model=12, num_layers=2, num_heads=3)
RULE = np.cumsum(np.random.default_rng(0).integers(1, 3, 400)) % 13  # each id is the one before plus 1 or 2


def trainer(dtype="float32", config=CONFIG, **changes):
    training_config = TrainingConfig(
        **({"num_steps": 30, "batch_size": 4, "warmup_steps": 5, "eval_interval": 10} | changes)
    )
    model = (GPT if isinstance(config, GPTConfig) else Decoder)(config, rng=np.random.default_rng(1), dtype=dtype)
    return Trainer(model, WindowDataset(RULE[:300], 8, 1), WindowDataset(RULE[300:], 8, 8), training_config)


def test_training_reaches_the_entropy_of_the_data():
    found = trainer(num_steps=400, learning_rate=1e-2, min_learning_rate=1e-4)
    metrics = []
    found.run([lambda _, step: metrics.append(step)])
    assert [step.step for step in metrics] == list(range(400))
    assert metrics[0].loss == pytest.approx(np.log(13), abs=0.1)
    assert found.evaluate() < np.log(2) + 0.25, "two successors are equally likely, so the entropy is ln 2"
    assert [step.step for step in metrics if step.validation_loss is not None] == list(range(0, 400, 10))
    assert metrics[0].perplexity == pytest.approx(np.exp(metrics[0].validation_loss))
    assert metrics[3].perplexity is None
    assert metrics[0].tokens == 32


@settings(max_examples=10)
@given(st.integers(1, 4), st.booleans())
def test_micro_batches_give_the_gradients_of_the_whole_batch(grad_accum_steps, with_ignored):
    whole, split = trainer("float64"), trainer("float64")
    inputs, targets = next(whole.batches)
    if with_ignored:
        targets[0, 2:] = -100  # the micro-batches then have different numbers of targets
    micro_batches = split_batch(inputs, targets, grad_accum_steps)
    assert len(micro_batches) == grad_accum_steps
    expected = accumulate_gradients(whole.model, [(1.0, (inputs, targets))])
    assert accumulate_gradients(split.model, micro_batches) == pytest.approx(expected)
    for (name, one), (_, other) in zip(whole.model.named_parameters(), split.model.named_parameters()):
        np.testing.assert_allclose(one.grad, other.grad, rtol=1e-9, atol=1e-13, err_msg=name)


def test_micro_batches_without_a_target_are_left_out():
    found = trainer("float64")
    inputs, targets = next(found.batches)
    targets[:2] = -100
    loss = accumulate_gradients(found.model, split_batch(inputs, targets, 2))
    assert loss == pytest.approx(float(found.model.loss(inputs[2:], targets[2:])))
    with pytest.raises(ValueError, match="every target is -100"):
        split_batch(inputs, np.full_like(targets, -100), 2)


def test_evaluation_counts_every_target_once():
    found = trainer("float64")
    data = found.validation
    inputs, targets = data[np.arange(len(data))]
    assert evaluate(found.model, data, 5) == pytest.approx(float(found.model.loss(inputs, targets)))
    assert evaluate(found.model, data, 5, 3) == pytest.approx(float(found.model.loss(inputs[:3], targets[:3])))
    without = Trainer(found.model, found.batches.dataset, None, TrainingConfig(batch_size=4))
    assert without.evaluate() is None
    assert without.step().validation_loss is None


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", None)])
def test_200_steps_equal_pytorch(dtype, tolerance):
    """The same start and the same batches: the same loss curve and weights as torch.optim.AdamW.

    In float32, rounding errors grow from step to step. So the allowed difference is a multiple of the difference
    between two PyTorch runs that add up the batch in different orders.
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
    """The same training in PyTorch; `order` −1 reverses every batch."""
    model = torch_reference("GPT")(start.model.config).to(getattr(torch, start.model.wte.weight.data.dtype.name))
    model.load_state_dict({name: torch.tensor(array) for name, array in start.model.state_dict().items()})
    c = start.config
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": c.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer, losses = torch.optim.AdamW(groups, betas=c.betas), []
    for step in range(c.num_steps):
        inputs, targets = (torch.tensor(array[::order].copy()) for array in next(start.batches))
        optimizer.zero_grad()
        loss = model.loss(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), c.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = c.learning_rate_at(step)
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


DROPPING = GPTConfig(13, 8, 12, 2, 3, embedding_dropout=0.1, attention_dropout=0.2, residual_dropout=0.1)


@settings(max_examples=8)
@given(st.integers(0, 19), st.booleans())
def test_resumed_training_is_equal_to_the_last_bit(tmp_path_factory, steps, dropout):
    options = {"num_steps": 20, "config": DROPPING if dropout else CONFIG}
    whole, first, second = (trainer(**options) for _ in range(3))
    whole.run()
    first.run(should_stop=lambda: first.steps_done >= steps)
    path = tmp_path_factory.mktemp("run") / "checkpoint"
    save_checkpoint(path, *first.state())
    second.run(should_stop=lambda: second.steps_done >= 7)  # loading replaces this state
    second.load_state(*load_checkpoint(path))
    second.run()
    fingerprints = []
    for finished in (whole, second):
        save_checkpoint(path, *finished.state())
        fingerprints.append(fingerprint(path))
    assert fingerprints[0] == fingerprints[1]


@pytest.mark.parametrize("name", ["GPT", "Decoder"])
def test_recompute_trains_the_same_model_to_the_last_bit(name, monkeypatch):
    config, repeated = DROPPING, []
    if name == "Decoder":
        config = DecoderConfig(vocab_size=13, context_length=8, d_model=12, num_layers=2, dropout=0.2)
    module = importlib.import_module(f"npllm.models.{name.lower()}")
    monkeypatch.setattr(module, "input_only_forward", lambda *a, **o: repeated.append(1) or input_only_forward(*a, **o))
    runs = [trainer(config=config, num_steps=6, grad_accum_steps=2, recompute=value) for value in (False, True)]
    losses = [[], []]
    for found, own in zip(runs, losses):
        found.run([lambda _, metrics, own=own: own.append((metrics.loss, metrics.grad_norm, metrics.validation_loss))])
    assert losses[0] == losses[1]
    (arrays, values), (arrays_again, values_again) = (found.state() for found in runs)
    assert values == values_again
    for key, array in arrays.items():
        np.testing.assert_array_equal(arrays_again[key], array, err_msg=key)
    assert len(repeated) == 6 * 2 * 2, "steps, micro-batches and blocks, with recompute only, and not in evaluations"


def test_recompute_lowers_the_peak_of_memory():
    config, peaks = GPTConfig(vocab_size=13, context_length=8, d_model=24, num_layers=8, num_heads=3), []
    for recompute in (False, True):
        found = trainer(config=config, batch_size=64, recompute=recompute, eval_interval=100)
        found.step()
        inputs, targets = next(found.batches)
        tracemalloc.start()
        try:
            accumulate_gradients(found.model, [(1.0, (inputs, targets))], **found.loss_options())
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 0.5 * peaks[0]


def test_a_state_that_does_not_match_changes_nothing():
    found = trainer()
    before = {name: array.copy() for name, array in found.state()[0].items()}
    arrays, values = trainer(config=GPTConfig(13, 8, 24, 2, 3)).state()
    with pytest.raises(ValueError, match="has shape .* it must be"):
        found.load_state(arrays, values)
    arrays, values = trainer(config=GPTConfig(13, 8, 12, 1, 3)).state()
    with pytest.raises(KeyError, match="steps does not fit AdamW"):
        found.load_state(arrays, values)
    for name, array in found.state()[0].items():
        np.testing.assert_array_equal(array, before[name])


def test_biases_and_norm_weights_do_not_decay():
    found = trainer()
    decaying = found.optimizer.decaying
    assert all(decays_weight(name, p) == (name in decaying) for name, p in found.model.named_parameters())
    assert "h.0.ln_1.weight" not in decaying
    assert "h.0.attn.c_attn.bias" not in decaying
    assert "wte.weight" in decaying


class TestCheckpoint:
    def test_other_and_damaged_files_are_refused(self, tmp_path):
        from npllm.weights import safetensors

        path = tmp_path / "c"
        with pytest.raises(FileNotFoundError):
            load_checkpoint(path)
        path.write_bytes(b"\x80\x04\x95pickle" * 9)
        with pytest.raises(ValueError, match="not a safetensors file"):
            load_checkpoint(path)
        safetensors.save(path, {"w": np.ones(3)})
        with pytest.raises(ValueError, match='it has format null; it must be "npllm checkpoint"'):
            load_checkpoint(path)
        safetensors.save(path, {}, {"format": "npllm checkpoint", "version": "1"})
        with pytest.raises(ValueError, match='it has version "1"; it must be "3"'):
            load_checkpoint(path)
        safetensors.save(path, {}, {"format": "npllm checkpoint", "version": "3", "values": "{"})
        with pytest.raises(ValueError, match="c: the values of the checkpoint is damaged"):
            load_checkpoint(path)

    @settings(max_examples=20)
    @given(st.data())
    def test_a_truncated_file_is_refused(self, tmp_path_factory, data):
        path = tmp_path_factory.mktemp("run") / "c"
        save_checkpoint(path, *trainer().state())
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(ValueError, match=str(path)):
            load_checkpoint(path)

    def test_values_and_the_order_of_arrays_are_kept(self, tmp_path):
        arrays, values = trainer().state()
        save_checkpoint(tmp_path / "c", arrays, values)
        found, again = load_checkpoint(tmp_path / "c")
        assert again == json.loads(json.dumps(values))
        assert list(found) == list(arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0; it must be at least 1"),
        ({"grad_accum_steps": 5}, "grad_accum_steps is 5; it must be at most batch_size, 4"),
        (
            {"learning_rate": 1e-5},
            "min_learning_rate is 0.0001; it must be at least 0 and at most learning_rate",
        ),
        ({"batch_size": 10_000}, "batch_size is 10000; it must be at least 1 and at most 292"),
    ],
)
def test_invalid_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(**changes)


def test_recompute_must_be_true_or_false():
    with pytest.raises(TypeError, match="recompute is 1; it must be True or False"):
        TrainingConfig(recompute=1)


class PaddedDataset:
    """Windows of which each has another number of targets that count; the last one has none."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.inputs, self.targets = rng.integers(0, 13, (9, 8)), rng.integers(0, 13, (9, 8))
        for row, count in enumerate([8, 1, 5, 2, 7, 8, 3, 1, 0]):
            self.targets[row, count:] = -100

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]


def test_evaluation_of_padded_rows_does_not_depend_on_the_batch_size():
    data, model = PaddedDataset(), GPT(CONFIG, rng=np.random.default_rng(1), dtype="float64")
    for _, parameter in model.named_parameters():
        parameter.data *= 20
    expected = float(model.loss(data.inputs, data.targets))
    for batch_size in (1, 2, 3, 9):
        assert evaluate(model, data, batch_size) == pytest.approx(expected, rel=1e-9)
    data.targets[:] = -100
    with pytest.raises(ValueError, match="every target of the dataset is -100"):
        evaluate(model, data, 4)


def test_the_metrics_count_the_targets_that_count():
    data = PaddedDataset()
    found = Trainer(GPT(CONFIG, rng=np.random.default_rng(1)), data, None, TrainingConfig(batch_size=9, num_steps=1))
    assert found.step().tokens == int((data.targets != -100).sum())


def test_a_state_of_another_batch_size_changes_nothing():
    found = trainer(batch_size=3)
    before = {name: array.copy() for name, array in found.state()[0].items()}
    with pytest.raises(ValueError, match="batch_size is 3; it must be 4"):
        found.load_state(*trainer().state())
    for name, array in found.state()[0].items():
        np.testing.assert_array_equal(array, before[name])


def test_the_weights_at_an_evaluation_are_those_that_were_evaluated():
    found, losses = trainer(), []
    found.run(on_evaluation=lambda loss: losses.append((found.steps_done, loss, found.evaluate())))
    assert [step for step, _, _ in losses] == [0, 10, 20]
    assert all(loss == again for _, loss, again in losses)

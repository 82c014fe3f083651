"""Options of `npllm train` that change how it computes and not what; the others are in test_train_and_generate.py."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npllm.batching import WindowDataset
from npllm.cli.main import main
from npllm.cli.train import _trial_step
from npllm.models import GPT, Decoder, DecoderConfig, GPTConfig
from npllm.training import Trainer, TrainingConfig, open_run
from npllm.training.step import accumulate_gradients
from npllm.utils.allocator import glibc_version
from tests.fingerprint import fingerprint

ROOT = Path(__file__).parent.parent.parent
TEXT = "the ferry left at nine, and the harbour was quiet. she counted the lamps on the far side of the water.\n" * 9
SMALL = [
    *("--num-steps", "8", "--num-layers", "2", "--num-heads", "2", "--d-model", "16", "--dropout", "0.1"),
    *("--context-length", "16", "--eval-interval", "5", "--threads", "1"),
]


def train(folder, *arguments):
    """Run the command, which must succeed."""
    assert main(["train", "--out", str(folder), *map(str, arguments)]) == 0


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory, text_file):
    """The folder of a finished run without any of the options."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    train(folder, "--text", text_file, *SMALL)
    return folder


def check_same(folder, plain, num_steps=8):
    """Both runs have the same log and the same bytes in their files."""
    records = [[json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in (folder, plain)]
    for one, other in zip(*records, strict=True):
        assert one | {"tokens_per_second": 0} == other | {"tokens_per_second": 0}
    assert len(records[0]) == num_steps
    for name in ("checkpoint.safetensors", "best.safetensors", "model.safetensors"):
        assert fingerprint(folder / name) == fingerprint(plain / name), name


def recorded(folder):
    return json.loads((folder / "run.json").read_text())["training"]["recompute"]


class TestRecompute:
    def test_losses_and_weights_are_those_of_a_run_without_it(self, tmp_path, text_file, plain, capsys):
        train(tmp_path / "run", "--text", text_file, "--recompute", *SMALL)
        check_same(tmp_path / "run", plain)
        assert (recorded(tmp_path / "run"), recorded(plain)) == (True, False)

    def test_a_resumed_run_keeps_it(self, tmp_path, text_file, plain):
        train(tmp_path / "run", "--text", text_file, "--recompute", *SMALL, "--num-steps", 4)
        train(tmp_path / "run", "--resume", "--num-steps", 8)
        assert recorded(tmp_path / "run") is True
        assert open_run(tmp_path / "run").trainer.loss_options()["recompute"] is True

    def test_it_can_be_added_when_a_run_is_resumed(self, tmp_path, text_file):
        for name, options in (("whole", []), ("changed", ["--recompute"])):
            train(tmp_path / name, "--text", text_file, *SMALL)
            train(tmp_path / name, "--resume", "--num-steps", 12, *options)
        check_same(tmp_path / "changed", tmp_path / "whole", 12)
        assert (recorded(tmp_path / "changed"), recorded(tmp_path / "whole")) == (True, False)

    def test_a_run_from_before_the_option_has_none(self, plain):
        from npllm.core.config import from_dict

        fields = json.loads((plain / "run.json").read_text())["training"]
        del fields["recompute"]
        assert from_dict(fields, TrainingConfig).recompute is False


class TestKeepFreedMemory:
    def test_the_result_is_that_of_a_run_without_it(self, tmp_path, text_file, plain):
        """In a process of its own: the setting cannot be undone."""
        options = ["--text", str(text_file), "--keep-freed-memory", *SMALL]
        command = [sys.executable, "-m", "npllm", "train", "--out", str(tmp_path / "run"), *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, "")
        first = done.stdout.splitlines()[0]
        assert first.startswith("allocator: ")
        assert ("keeps freed memory" in first) == (glibc_version() is not None)
        check_same(tmp_path / "run", plain)

    def test_the_line_says_what_was_done_also_with_resume(self, plain, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("npllm.cli.train.keep_freed_memory", lambda: "allocator: unchanged")
        folder = shutil.copytree(plain, tmp_path / "run")
        train(folder, "--resume")
        assert "allocator" not in capsys.readouterr().out
        train(folder, "--resume", "--keep-freed-memory")
        assert capsys.readouterr().out.startswith("allocator: unchanged\n")


class TestTrialStep:
    """The step that is timed to choose the number of threads."""

    @pytest.mark.parametrize("recompute", [False, True])
    @pytest.mark.parametrize("kind", [GPT, Decoder])
    def test_it_is_the_step_of_the_training(self, kind, recompute, monkeypatch):
        trainer = self.trainer(kind, recompute)
        calls, add_loss_gradients = [], kind.add_loss_gradients

        def spy(self, *arguments, **options):
            calls.append(options)
            return add_loss_gradients(self, *arguments, **options)

        monkeypatch.setattr(kind, "add_loss_gradients", spy)
        monkeypatch.setattr(kind, "loss_forward", lambda *a, **o: pytest.fail("training does not call it"))
        before = trainer.state()[1]
        step = _trial_step(trainer)
        step()
        assert trainer.state()[1] == before, "the generator of the training has drawn nothing"
        trainer.step()
        trial, *training = calls
        assert len(training) == 3
        assert all(options.keys() == trial.keys() for options in training)
        assert trial.get("recompute", False) is recompute

    def test_dropout_is_active(self):
        trainer = self.trainer(GPT, False)
        _trial_step(trainer)()
        found = trainer.model.wte.weight.grad.copy()
        trainer.optimizer.zero_grad()
        batch = trainer.batches.dataset[np.arange(2)]
        accumulate_gradients(trainer.model, [(1.0, batch)], rng=trainer.dropout_rng)
        np.testing.assert_array_equal(trainer.model.wte.weight.grad, found)

    def trainer(self, kind, recompute):
        if kind is GPT:
            config = GPTConfig(13, 8, 12, 2, 3, embedding_dropout=0.1, attention_dropout=0.2, residual_dropout=0.1)
        else:
            config = DecoderConfig(vocab_size=13, context_length=8, d_model=12, num_layers=2, dropout=0.2)
        data = WindowDataset(np.arange(100) % 13, 8, 1)
        training = TrainingConfig(num_steps=3, batch_size=6, grad_accum_steps=3, recompute=recompute)
        return Trainer(kind(config, rng=np.random.default_rng(0)), data, None, training)

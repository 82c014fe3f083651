"""torch_ref.train: PyTorch, on one process or two, continues a run of npllm, and npllm continues the result."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from npllm.models import GPTConfig, architecture
from npllm.tokenizers import CharacterTokenizer
from npllm.training import TrainingConfig, create_run, open_run
from npllm.training.log import StepLog
from tests.training.test_run import ROOT, TEXT
from torch_ref.train import main, train

CONFIG = TrainingConfig(num_steps=24, batch_size=4, warmup_steps=5, eval_interval=10)


def begin(folder, name="gpt"):
    """A run of 24 steps."""
    tokenizer = CharacterTokenizer.from_text(TEXT)
    size = tokenizer.vocab_size, 16, 16, 1, 2
    return create_run(folder, TEXT, tokenizer, GPTConfig(*size) if name == "gpt" else architecture(name, *size), CONFIG)


def train_with_npllm(folder, last_step=24):
    """Train a run to a step, with a log."""
    run = open_run(folder)
    log = StepLog(run.folder / "log.jsonl", run.trainer.steps_done)

    def record(_, metrics):
        entry = {"step": metrics.step, "loss": metrics.loss}
        log.add(entry if metrics.validation_loss is None else entry | {"validation_loss": metrics.validation_loss})

    run.trainer.run([record], lambda: run.trainer.steps_done >= last_step)
    run.save()


def run_two_processes(folder):
    """What `torchrun --nproc_per_node=2 -m torch_ref.train --steps 8 --out FOLDER` starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "torch_ref.train", "--steps", "8", "--out", str(folder)]
    processes = [
        subprocess.Popen(command, env=os.environ | common | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE)
        for rank in "01"
    ]
    for process in processes:
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error.decode()


def curve(folder):
    """The losses in a run's log, and its validation losses."""
    records = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(24))
    return [r["loss"] for r in records], [r["validation_loss"] for r in records if "validation_loss" in r]


def test_pytorch_continues_a_run_on_one_process_and_on_two_and_npllm_continues_the_result(tmp_path):
    begin(tmp_path / "npllm")
    train_with_npllm(tmp_path / "npllm", 8)
    shutil.copytree(tmp_path / "npllm", tmp_path / "one")
    shutil.copytree(tmp_path / "npllm", tmp_path / "two")
    train_with_npllm(tmp_path / "npllm")
    main(["--steps", "8", "--out", str(tmp_path / "one")])
    run_two_processes(tmp_path / "two")
    expected, expected_validation = curve(tmp_path / "npllm")
    for name in ("one", "two"):
        assert open_run(tmp_path / name).trainer.steps_done == 16
        train_with_npllm(tmp_path / name)
        losses, validation = curve(tmp_path / name)
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(validation, expected_validation, rtol=1e-4)
        assert set(open_run(tmp_path / name).trainer.optimizer.steps.values()) == {24}


@pytest.mark.parametrize("name", ["qwen", "mixtral"])
def test_pytorch_continues_a_decoder_and_npllm_continues_the_result(tmp_path, name):
    begin(tmp_path / "npllm", name).save()
    shutil.copytree(tmp_path / "npllm", tmp_path / "torch")
    train(open_run(tmp_path / "torch"), torch.device("cpu"), 12, 12)
    assert open_run(tmp_path / "torch").trainer.steps_done == 12
    losses = {}
    for folder in ("npllm", "torch"):
        trainer = open_run(tmp_path / folder).trainer
        trainer.run()
        losses[folder] = trainer.evaluate()
    assert losses["torch"] == pytest.approx(losses["npllm"], rel=1e-4)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="torch_ref.train: there is no run.json in"):
        main(["--out", str(tmp_path)])

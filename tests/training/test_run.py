"""Runs in a folder: killed at random moments they lose nothing; PyTorch, on one process or two, can take them over."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from npllm.models import GPTConfig, architecture
from npllm.tokenizers import CharacterTokenizer, train_bpe
from npllm.training import TrainingConfig, create_run, open_run
from npllm.training.log import StepLog
from tests.fingerprint import fingerprint

ROOT = Path(__file__).parent.parent.parent
TEXT = "the ferry left at nine, and nobody on it spoke. she counted the lamps on the far side of the water.\n" * 12
TINY = {"num-layers": 1, "num-heads": 2, "d-model": 16, "context-length": 16, "batch-size": 4, "eval-interval": 10}


def begin(folder, steps=30, num_threads=None, **changes):
    tokenizer = CharacterTokenizer.from_text(TEXT)
    config = GPTConfig(tokenizer.vocab_size, 16, 16, 1, 2, attention_dropout=0.1)
    training_config = TrainingConfig(num_steps=steps, batch_size=4, warmup_steps=5, eval_interval=10, **changes)
    return create_run(folder, TEXT, tokenizer, config, training_config, num_threads=num_threads)


def command(folder, *arguments):
    """The arguments of a process that trains in a folder."""
    return [sys.executable, "-m", "npllm", "train", "--out", str(folder), *map(str, arguments)]


def environment():
    """One thread, so that several processes do not disturb each other."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def tiny_options():
    """The command's options for a tiny model."""
    return [word for name, value in TINY.items() for word in (f"--{name}", str(value))]


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path):
    """SIGKILL, again and again, also while a checkpoint is written (one is written every step)."""
    (tmp_path / "text.txt").write_text(TEXT)
    start = [
        "--text",
        tmp_path / "text.txt",
        "--steps",
        240,
        "--dropout",
        0.1,
        *tiny_options(),
        "--checkpoint-interval",
        1,
    ]
    subprocess.run(command(tmp_path / "whole", *start), check=True, capture_output=True, env=environment())
    folder, checkpoint = tmp_path / "killed", tmp_path / "killed" / "checkpoint.safetensors"
    rng, kills, steps_done = random.Random(0), 0, [0]
    while steps_done[-1] < 240:
        arguments = ["--resume", "--checkpoint-interval", 1] if (folder / "run.json").exists() else start
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        with subprocess.Popen(command(folder, *arguments), stdout=subprocess.DEVNULL, env=environment()) as process:
            while process.poll() is None:  # until it is at work, then a random moment more
                if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                    time.sleep(rng.uniform(0.0, 0.1))
                    process.kill()
                    break
                time.sleep(0.002)
        assert process.returncode == -signal.SIGKILL
        kills += 1
        steps_done.append(open_run(folder).trainer.steps_done)  # the checkpoint is whole
    subprocess.run(command(folder, "--resume"), check=True, capture_output=True, env=environment())
    assert steps_done == sorted(steps_done)
    assert kills >= 5
    for name in ("checkpoint.safetensors", "model.safetensors", "config.json"):
        assert fingerprint(folder / name) == fingerprint(tmp_path / "whole" / name), name
    logs = [
        [json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in (folder, tmp_path / "whole")
    ]
    for one, other in zip(*logs, strict=True):
        assert {k: v for k, v in one.items() if k != "tokens_per_second"} == {
            k: v for k, v in other.items() if k != "tokens_per_second"
        }


def test_ctrl_c_ends_with_a_checkpoint_and_resume_goes_on(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    folder = tmp_path / "run"
    arguments = ["--text", tmp_path / "text.txt", "--steps", 100_000, *tiny_options(), "--checkpoint-interval", 100_000]
    process = subprocess.Popen(command(folder, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment())  # fmt: skip
    deadline = time.monotonic() + 60
    while not (folder / "log.jsonl").exists() or (folder / "log.jsonl").read_text().count("\n") < 15:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "")
    assert "continue with: npllm train --out" in " ".join(out.split())
    steps_done = open_run(folder).trainer.steps_done
    assert steps_done >= 15
    assert len((folder / "log.jsonl").read_text().splitlines()) == steps_done
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")


def curve(folder):
    """The losses in a run's log, and its validation losses."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [r["loss"] for r in records], [r["validation_loss"] for r in records if "validation_loss" in r]


def test_pytorch_on_one_process_and_on_two_continues_a_run_and_npllm_continues_theirs(tmp_path):
    from npllm.cli.train import train_and_show
    from tests.utils.test_terminal import console

    tokenizer = CharacterTokenizer.from_text(TEXT)
    config = GPTConfig(tokenizer.vocab_size, 16, 16, 1, 2)
    training_config = TrainingConfig(num_steps=24, batch_size=4, warmup_steps=5, eval_interval=10)
    run = create_run(tmp_path / "npllm", TEXT, tokenizer, config, training_config)
    log = StepLog(run.folder / "log.jsonl", 0)
    run.trainer.run(
        [lambda _, report: log.add({"step": report.step, "loss": report.loss})], lambda: run.trainer.steps_done >= 8
    )
    run.save()
    shutil.copytree(tmp_path / "npllm", tmp_path / "one")
    shutil.copytree(tmp_path / "npllm", tmp_path / "two")
    train_and_show(console(), open_run(tmp_path / "npllm"))

    module = ["-m", "torch_ref.train", "--steps", "8", "--out"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for start, name in (([sys.executable], "one"), (torchrun, "two")):
        done = subprocess.run(
            [*start, *module, tmp_path / name],
            capture_output=True,
            text=True,
            env=environment(),
            cwd=ROOT,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert open_run(tmp_path / name).trainer.steps_done == 16
        train_and_show(console(), open_run(tmp_path / name))
    expected, expected_validation = curve(tmp_path / "npllm")
    for name in ("one", "two"):
        losses, validation = curve(tmp_path / name)
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(validation[-1], expected_validation[-1], rtol=1e-4)
        ours = open_run(tmp_path / name).trainer
        assert set(ours.optimizer.steps.values()) == {24}


@pytest.mark.parametrize("name", ["qwen", "mixtral"])
def test_pytorch_continues_a_decoder_and_npllm_continues_it(tmp_path, name):
    from torch_ref.train import train

    tokenizer = CharacterTokenizer.from_text(TEXT)
    config = architecture(name, tokenizer.vocab_size, 16, 16, 1, 2)
    training_config = TrainingConfig(num_steps=24, batch_size=4, warmup_steps=5, eval_interval=10)
    run = create_run(tmp_path / "npllm", TEXT, tokenizer, config, training_config)
    run.save()
    shutil.copytree(tmp_path / "npllm", tmp_path / "theirs")
    losses = {}
    for folder in ("npllm", "theirs"):
        run = open_run(tmp_path / folder)
        if folder == "theirs":
            train(run, torch.device("cpu"), 12, 12)
            run = open_run(tmp_path / folder)
            assert run.trainer.steps_done == 12
        run.trainer.run()
        losses[folder] = run.trainer.evaluate()
    assert losses["theirs"] == pytest.approx(losses["npllm"], rel=1e-4)


def test_a_run_from_before_there_were_decoders_is_a_gpt(tmp_path):
    begin(tmp_path)
    content = json.loads((tmp_path / "run.json").read_text())
    del content["model"]["class"]
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert isinstance(open_run(tmp_path).model.config, GPTConfig)


def test_torch_ref_train_without_a_run_says_what_is_missing(tmp_path):
    done = subprocess.run([sys.executable, "-m", "torch_ref.train", "--out", tmp_path], capture_output=True, text=True,
                          env=environment(), cwd=ROOT)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("torch_ref.train: there is no run.json in")


def test_what_is_in_the_folder(tmp_path):
    run = begin(tmp_path / "run")
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "run.json", "train.tokens", "validation.tokens", "vocabulary.json"
    ]  # fmt: skip
    ids = np.concatenate([run.trainer.batches.dataset.ids, run.trainer.validation.ids])
    assert run.tokenizer.decode(ids.tolist()) == TEXT
    with pytest.raises(FileExistsError, match="already has a run; resume it"):
        begin(tmp_path / "run")


def test_a_run_without_a_checkpoint_begins_anew(tmp_path):
    begin(tmp_path / "run").trainer.run()
    assert open_run(tmp_path / "run").trainer.steps_done == 0


def test_byte_pairs_are_loaded_too(tmp_path):
    tokenizer = train_bpe(TEXT, 280)
    run = create_run(tmp_path, TEXT, tokenizer, GPTConfig(280, 8, 16, 1, 2), TrainingConfig(num_steps=1))
    assert run.tokenizer.encode("the lamps") == tokenizer.encode("the lamps")


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no run.json"):
        open_run(tmp_path)
    begin(tmp_path / "run").save()
    for name, content in [
        ("checkpoint.safetensors", b"rubbish"),
        ("train.tokens", b"rubbish"),
        ("vocabulary.json", b"{}"),
        ("run.json", b'{"format": "npllm run"}'),
        ("run.json", b'{"format": "npllm run", "version": 2, "model": {"layers": 3}, "training": {"betas": []}}'),
        ("run.json", (tmp_path / "run" / "run.json").read_bytes().replace(b'"num_threads": null', b'"num_threads": 0')),
    ]:
        whole = (tmp_path / "run" / name).read_bytes()
        (tmp_path / "run" / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            open_run(tmp_path / "run")
        (tmp_path / "run" / name).write_bytes(whole)
    other = begin(tmp_path / "other", seed=1)
    other.trainer.model.wpe.weight.data = np.zeros((4, 16), np.float32)
    other.save()
    shutil.copy(other.folder / "checkpoint.safetensors", tmp_path / "run")
    with pytest.raises(ValueError, match="does not belong to this run: .*wpe.weight"):
        open_run(tmp_path / "run")


def test_a_run_of_another_version_says_so(tmp_path):
    begin(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(ValueError, match="run.json has version 1; this npllm opens runs of version 2 only"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("num_threads", [None, 3])
def test_the_number_of_threads_is_recorded(tmp_path, num_threads):
    assert begin(tmp_path / "run", num_threads=num_threads).num_threads == num_threads
    assert open_run(tmp_path / "run").num_threads == num_threads


def test_a_text_too_short_writes_nothing(tmp_path):
    tokenizer = CharacterTokenizer.from_text(TEXT)
    with pytest.raises(ValueError, match="the validation text has 10 tokens; .* at least 17"):
        create_run(tmp_path / "run", TEXT[:100], tokenizer, GPTConfig(tokenizer.vocab_size, 16, 16, 1, 2))
    assert not (tmp_path / "run").exists()


def test_a_log_cut_by_a_crash_loses_its_last_line_only(tmp_path):
    log = StepLog(tmp_path / "log", 0)
    for step in range(5):
        log.add({"step": step, "loss": float(step)})
    with open(tmp_path / "log", "a") as file:
        file.write('{"step": 5, "lo')
    assert [r["step"] for r in StepLog(tmp_path / "log", 9).records] == [0, 1, 2, 3, 4]
    again = StepLog(tmp_path / "log", 3)
    assert [r["step"] for r in again.records] == [0, 1, 2]
    again.add({"step": 3, "loss": 9.0})
    assert again.recent_loss(2) == 5.5
    assert len((tmp_path / "log").read_text().splitlines()) == 4

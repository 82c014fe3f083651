"""Runs in a folder: a run that is killed and resumed ends with the bytes of an uninterrupted one."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npllm.cli.main import main
from npllm.models import GPTConfig
from npllm.tokenizers import CharacterTokenizer, train_bpe
from npllm.training import TrainingConfig, create_run, open_run, open_trained, warmup_cosine
from npllm.training.run_config import write_run
from npllm.utils.file_errors import FileError
from tests.fingerprint import fingerprint

ROOT = Path(__file__).parent.parent.parent
TEXT = "the ferry left at nine, and nobody on it spoke. she counted the lamps on the far side of the water.\n" * 12
TINY = {"num-layers": 1, "num-heads": 2, "d-model": 16, "context-length": 16, "batch-size": 4, "eval-interval": 10}


def begin(folder, steps=30, num_threads=None, **changes):
    tokenizer = CharacterTokenizer.from_text(TEXT)
    config = GPTConfig(tokenizer.vocab_size, 16, 16, 1, 2, attention_dropout=0.1)
    training_config = TrainingConfig(num_steps=steps, batch_size=4, warmup_steps=5, eval_interval=10, **changes)
    return create_run(folder, TEXT, tokenizer, config, training_config, num_threads=num_threads)


def start_training(folder, *arguments, **options):
    """A process that trains in a folder, on one thread."""
    command = [sys.executable, "-m", "npllm", "train", "--out", str(folder), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, **options)


def tiny_options():
    """The command's options for a tiny model."""
    return [word for name, value in TINY.items() for word in (f"--{name}", str(value))]


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tmp_path):
    """SIGKILL several times, also while a checkpoint is written: one is written at every step."""
    (tmp_path / "text.txt").write_text(TEXT)
    start = ["--text", str(tmp_path / "text.txt"), "--num-steps", "160", "--dropout", "0.1", *tiny_options()]
    start += ["--checkpoint-interval", "1", "--threads", "1"]
    assert main(["train", "--out", str(tmp_path / "whole"), *start]) == 0
    folder, checkpoint = tmp_path / "killed", tmp_path / "killed" / "checkpoint.previous.safetensors"
    rng, steps_done = random.Random(0), [0]
    for _ in range(3):
        arguments = ["--resume", "--checkpoint-interval", 1] if (folder / "run.json").exists() else start
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        with start_training(folder, *arguments, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:  # until its first checkpoint, then for a random time
                if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                    time.sleep(rng.uniform(0.0, 0.1))
                    process.kill()
                    break
                time.sleep(0.002)
        assert process.returncode == -signal.SIGKILL
        steps_done.append(open_run(folder).trainer.steps_done)  # the checkpoint is complete
    assert steps_done == sorted(set(steps_done)) and steps_done[-1] < 160
    assert main(["train", "--out", str(folder), "--resume"]) == 0
    assert not list(folder.glob(".*")), "no lock and no temporary file is left"
    for name in ("checkpoint.safetensors", "model.safetensors", "config.json"):
        assert fingerprint(folder / name) == fingerprint(tmp_path / "whole" / name), name
    logs = [
        [json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in (folder, tmp_path / "whole")
    ]
    for one, other in zip(*logs, strict=True):
        assert one | {"tokens_per_second": 0} == other | {"tokens_per_second": 0}


def test_ctrl_c_saves_a_checkpoint(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    folder = tmp_path / "run"
    arguments = [
        "--text",
        tmp_path / "text.txt",
        "--num-steps",
        100_000,
        *tiny_options(),
        "--checkpoint-interval",
        100_000,
    ]
    process = start_training(folder, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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


def test_the_files_of_a_new_run(tmp_path):
    run = begin(tmp_path / "run")
    assert sorted(path.name for path in run.folder.iterdir()) == [
        ".npllm-lock", "checkpoint.safetensors", "run.json", "train.tokens", "validation.tokens", "vocabulary.json"
    ]  # fmt: skip
    ids = np.concatenate([run.trainer.batches.dataset.ids, run.trainer.validation.ids])
    assert run.tokenizer.decode(ids.tolist()) == TEXT
    with pytest.raises(FileExistsError, match="already has a run; resume it"):
        begin(tmp_path / "run")


def test_a_run_that_was_not_saved_starts_at_step_0(tmp_path):
    begin(tmp_path / "run").trainer.run()
    assert open_run(tmp_path / "run").trainer.steps_done == 0


def test_files_of_another_run_are_refused(tmp_path):
    begin(tmp_path / "run")
    other = create_run(
        tmp_path / "other", TEXT[::-1], CharacterTokenizer.from_text(TEXT + "z"), GPTConfig(30, 16, 16, 1, 2)
    )
    for name in ("vocabulary.json", "train.tokens", "validation.tokens"):
        own = (tmp_path / "run" / name).read_bytes()
        shutil.copy(other.folder / name, tmp_path / "run")
        with pytest.raises(FileError, match=f"{name} does not belong to this run: it is not the file that run.json"):
            open_run(tmp_path / "run")
        (tmp_path / "run" / name).write_bytes(own)


def test_an_edited_run_json_is_refused(tmp_path):
    begin(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace('"learning_rate": 0.001', '"learning_rate": 0.002'))
    with pytest.raises(FileError, match="run.json is damaged or was edited"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("changes", [{"num_layers": 10**4}, {"vocab_size": 3}])
def test_sizes_that_do_not_fit_are_refused_before_a_model_is_built(tmp_path, changes):
    run = begin(tmp_path / "run")
    write_run(run.folder, replace(run.config, model=replace(run.config.model, **changes)))
    with pytest.raises(FileError, match="run.json has"):
        open_run(tmp_path / "run")


def test_a_token_file_that_was_replaced_during_the_run_stops_it(tmp_path):
    run = begin(tmp_path / "run")
    shutil.copy(tmp_path / "run" / "validation.tokens", tmp_path / "run" / "train.tokens")
    with pytest.raises(FileError, match="train.tokens was replaced during the run"):
        run.save()


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_a_diverged_run_stops_and_keeps_its_checkpoint(tmp_path):
    run = begin(tmp_path / "run", weight_decay=1e9)
    with pytest.raises(FloatingPointError, match="diverged"):
        run.trainer.run([lambda *_: run.save()])
    assert open_run(tmp_path / "run").trainer.steps_done > 0
    run.model.wpe.weight.data[0, 0] = np.nan
    before = fingerprint(tmp_path / "run" / "checkpoint.safetensors")
    with pytest.raises(FloatingPointError, match="model.wpe.weight has values that are nan or infinite"):
        run.save()
    assert fingerprint(tmp_path / "run" / "checkpoint.safetensors") == before


def test_a_run_with_byte_pair_encoding(tmp_path):
    tokenizer = train_bpe(TEXT, 280)
    run = create_run(tmp_path, TEXT, tokenizer, GPTConfig(280, 8, 16, 1, 2), TrainingConfig(num_steps=1))
    assert run.tokenizer.encode("the lamps") == tokenizer.encode("the lamps")


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no run.json"):
        open_run(tmp_path)
    begin(tmp_path / "run").save()
    for name, content in [
        ("checkpoint.safetensors", b"garbage"),
        ("train.tokens", b"garbage"),
        ("vocabulary.json", b"{}"),
        ("run.json", b'{"format": "npllm run"}'),
        ("run.json", b'{"format": "npllm run", "version": 3, "model": {"layers": 3}, "training": {"betas": []}}'),
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
    with pytest.raises(ValueError, match="checkpoint.safetensors does not belong to this run: .*wpe.weight"):
        open_run(tmp_path / "run")


def test_a_run_of_another_version_is_refused(tmp_path):
    begin(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace('"version": 3', '"version": 2'))
    with pytest.raises(ValueError, match="run.json has version 2; it must be 3, which this npllm reads"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("num_threads", [None, 3])
def test_the_number_of_threads_is_recorded(tmp_path, num_threads):
    assert begin(tmp_path / "run", num_threads=num_threads).num_threads == num_threads
    assert open_run(tmp_path / "run").num_threads == num_threads


def test_nothing_is_written_for_a_text_that_is_too_short(tmp_path):
    tokenizer = CharacterTokenizer.from_text(TEXT)
    with pytest.raises(ValueError, match="the validation text has 10 tokens; .* at least 17"):
        create_run(tmp_path / "run", TEXT[:100], tokenizer, GPTConfig(tokenizer.vocab_size, 16, 16, 1, 2))
    assert not (tmp_path / "run").exists()


def test_the_best_weights_are_kept(tmp_path):
    run = begin(tmp_path / "run", learning_rate=1e-2)
    losses = []
    run.trainer.run(on_evaluation=lambda loss: (losses.append(loss), run.save_best(loss)))
    best = int(np.argmin(losses))
    assert run.best == open_run(tmp_path / "run").best == (best * 10, losses[best])
    run.save_best(losses[best] + 1)
    assert run.best == (best * 10, losses[best]), "a higher loss replaces nothing"
    run.save()
    last, found = open_trained(tmp_path / "run"), open_trained(tmp_path / "run", best=True)
    np.testing.assert_array_equal(last.model.wte.weight.data, run.model.wte.weight.data)
    run.trainer.model = found.model
    assert run.trainer.evaluate() == losses[best]
    (tmp_path / "run" / "best.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="there is no best.safetensors"):
        open_trained(tmp_path / "run", best=True)


def test_a_finished_run_can_be_prolonged(tmp_path):
    """Its further steps are those of a trainer with the new number of steps."""
    run = begin(tmp_path / "run")
    run.trainer.run()
    run.save()
    again = open_run(tmp_path / "run")
    with pytest.raises(ValueError, match="num_steps is 29; it must be at least 30, the number of steps done"):
        again.set_num_steps(29)
    again.set_num_steps(40)
    rates = []
    open_run(tmp_path / "run").trainer.run([lambda _, metrics: rates.append(metrics.learning_rate)])
    assert rates == [warmup_cosine(step, 40, 1e-3, 1e-4, 5) for step in range(30, 40)]


def test_a_run_that_cannot_be_created_leaves_nothing_behind(tmp_path):
    tokenizer = CharacterTokenizer.from_text(TEXT)
    config, folder = GPTConfig(tokenizer.vocab_size, 16, 16, 1, 2), tmp_path / "new" / "run"
    with pytest.raises(ValueError, match="batch_size is 5000"):
        create_run(folder, TEXT, tokenizer, config, TrainingConfig(batch_size=5000))
    with pytest.raises(ValueError, match=r"is 99; it must be in"):
        create_run(folder, np.append(tokenizer.encode(TEXT), [99] * 20), tokenizer, config)
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    with pytest.raises(ValueError, match="it must be in"):
        create_run(tmp_path / "mine", np.full(1000, 99), tokenizer, config)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]

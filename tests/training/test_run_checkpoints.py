"""The checkpoint before the last one: kept, offered, and never replaced by a damaged one."""

import numpy as np
import pytest

from npllm.cli.main import main
from npllm.training import open_run, open_trained
from npllm.training.checkpoint import load_checkpoint, save_checkpoint
from npllm.utils.file_errors import FileError
from tests.training.test_run import begin

LAST, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


@pytest.fixture
def folder(tmp_path):
    """A run with checkpoints of steps 2 and 3, the last one damaged by one flipped bit."""
    run = begin(tmp_path / "run", steps=6)
    for _ in range(3):
        run.trainer.step()
        run.save()
    flip(run.folder / LAST)
    run.close()
    return run.folder


def flip(path):
    content = bytearray(path.read_bytes())
    content[-403] ^= 4
    path.unlink()
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_refused_and_the_previous_one_is_offered(folder):
    message = rf"{LAST} is damaged, .*SHA-256.*of step 2, is intact; .*: npllm train --out .*run --resume --previous$"
    for read in (open_run, open_trained):
        with pytest.raises(FileError, match=message):
            read(folder)


def test_a_missing_checkpoint_is_no_new_beginning(folder):
    (folder / LAST).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{LAST}; the checkpoint before it, of step 2, is intact"):
        open_run(folder)


def test_two_damaged_checkpoints(folder):
    flip(folder / PREVIOUS)
    with pytest.raises(FileError, match=rf"{PREVIOUS}, the checkpoint before it, is missing or damaged, too$"):
        open_run(folder)
    with pytest.raises(FileError, match=rf"{PREVIOUS} is damaged.*there is no earlier checkpoint$"):
        open_run(folder, previous=True)


def test_the_damaged_checkpoint_does_not_replace_the_previous_one(folder):
    run = open_run(folder, previous=True)
    assert run.trainer.steps_done == 2
    run.trainer.step()
    run.save()
    assert load_checkpoint(folder / PREVIOUS)[1]["steps_done"] == 2
    assert load_checkpoint(folder / LAST)[1]["steps_done"] == 3
    run.trainer.step()
    run.save()
    assert load_checkpoint(folder / PREVIOUS)[1]["steps_done"] == 3


def test_the_command_continues_from_the_previous_checkpoint(folder, capsys):
    assert main(["train", "--out", str(folder), "--resume"]) == 1
    assert "--resume --previous" in " ".join(capsys.readouterr().err.split())
    assert main(["train", "--out", str(folder), "--resume", "--previous"]) == 0
    whole = begin(folder.parent / "whole", steps=6)
    whole.trainer.run()
    for one, other in zip(open_run(folder).trainer.state()[0].values(), whole.trainer.state()[0].values()):
        np.testing.assert_array_equal(one, other)


def test_previous_needs_resume(tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--out", str(tmp_path), "--previous"])


def test_a_damaged_file_of_the_best_weights(tmp_path):
    run = begin(tmp_path / "run")
    run.save_best(3.0)
    flip(run.folder / "best.safetensors")
    for read in (open_run, lambda folder: open_trained(folder, best=True)):
        with pytest.raises(FileError, match="best.safetensors is damaged.*remove it to continue the run"):
            read(run.folder)


@pytest.mark.parametrize(
    "change",
    [
        {"steps_done": -1}, {"steps_done": 2.5}, {"steps_done": 10**9}, {"steps_done": 2}, {"steps_done": True},
        {"optimizer_steps": {}}, {"batches": None}, {"dropout_rng": {}}, {"steps_done": "3"},
    ],
)  # fmt: skip
def test_values_that_no_run_has_are_refused(tmp_path, change):
    run = begin(tmp_path / "run")
    for _ in range(3):
        run.trainer.step()
    arrays, values = run.trainer.state()
    save_checkpoint(run.folder / LAST, arrays, values | change)
    with pytest.raises(FileError, match=f"{LAST} does not belong to this run: "):
        open_run(run.folder)


@pytest.mark.parametrize("dtype", ["int32", "bool", "float16", "float64"])
def test_arrays_of_another_dtype_are_refused(tmp_path, dtype):
    run = begin(tmp_path / "run")
    arrays, values = run.trainer.state()
    name = "optimizer.exp_avg.wpe.weight"
    save_checkpoint(run.folder / LAST, arrays | {name: arrays[name].astype(dtype)}, values)
    with pytest.raises(FileError, match=f"{name} has dtype {dtype}; it must be float32"):
        open_run(run.folder)

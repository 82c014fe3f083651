import os
import subprocess
import sys

import pytest

from npllm.cli.main import main
from npllm.training import open_run, open_trained
from npllm.training.run_lock import hold
from tests.training.test_run import ROOT, begin

HOLDS = "import sys, pathlib; from npllm.training.run_lock import hold\n"
HOLDS += "lock = hold(pathlib.Path(sys.argv[1])); print(flush=True); sys.stdin.read()"


@pytest.fixture
def other_process(tmp_path):
    """A run whose folder is locked by another process."""
    begin(tmp_path / "run").close()
    command = [sys.executable, "-c", HOLDS, tmp_path / "run"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.readline()
        yield tmp_path / "run"
        process.stdin.close()


def test_a_second_process_is_refused_and_may_read(other_process, capsys):
    assert main(["train", "--out", str(other_process), "--resume"]) == 1
    assert f"{other_process} is in use: another process trains in it" in " ".join(capsys.readouterr().err.split())
    (other_process / "run.json").unlink()
    with pytest.raises(BlockingIOError, match="is in use"):
        begin(other_process)
    assert (other_process / "train.tokens").exists(), "a refused process removes no file of the other"


def test_a_locked_run_can_be_read(other_process):
    assert open_trained(other_process).model.config.num_layers == 1
    assert open_run(other_process, lock=False).trainer.steps_done == 0


def test_the_lock_ends_with_the_last_run_of_the_process(tmp_path):
    first, second = begin(tmp_path / "run"), open_run(tmp_path / "run")
    del first
    assert (tmp_path / "run" / ".npllm-lock").exists()
    del second
    assert not (tmp_path / "run" / ".npllm-lock").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_forked_process_does_not_hold_the_lock(tmp_path):
    lock = hold(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            hold(tmp_path)
        except BlockingIOError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert (tmp_path / ".npllm-lock").exists()
    lock.release()
    assert not (tmp_path / ".npllm-lock").exists()

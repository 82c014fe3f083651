"""`npllm train` and signals: the step is completed, a checkpoint is written; a resumed run ends with equal bytes."""

import signal

import pytest

from npllm.cli.main import main
from npllm.training import open_run
from npllm.training.log import StepLog
from npllm.utils import signals
from npllm.utils.signals import SIGNALS
from tests.fingerprint import fingerprint

TEXT = "the ferry left at nine, and the harbour was quiet. she counted the lamps on the far side of the water.\n" * 9
SMALL = [
    *("--num-steps", "12", "--num-layers", "1", "--num-heads", "2", "--d-model", "16", "--dropout", "0.1"),
    *("--context-length", "16", "--eval-interval", "5", "--threads", "1", "--checkpoint-interval", "4"),
]


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, text_file):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert main(["train", "--text", text_file, "--out", str(folder), *SMALL]) == 0
    return folder


def send_at_step(monkeypatch, step, *numbers):
    """Send the signals when the record of the step is written."""
    add = StepLog.add

    def add_and_send(self, record):
        add(self, record)
        if record["step"] == step:
            for number in numbers:
                signal.raise_signal(number)

    monkeypatch.setattr(StepLog, "add", add_and_send)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", [6, 11])
def test_a_signal_completes_the_step_and_saves(tmp_path, text_file, uninterrupted, number, step, monkeypatch, capsys):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        send_at_step(patch, step, number)
        assert main(["train", "--text", text_file, "--out", str(folder), *SMALL]) == 128 + number
    out = capsys.readouterr().out
    name = "" if number == signal.SIGINT else f" by {number.name}"
    assert f"interrupted{name} after step {step + 1}; continue with: npllm train --out {folder} --resume" in out
    assert open_run(folder).trainer.steps_done == step + 1
    assert (folder / "loss.png").exists() and not (folder / "model.safetensors").exists()
    assert not list(folder.glob(".*.tmp"))
    assert main(["train", "--out", str(folder), "--resume"]) == 0
    for file in ("checkpoint.safetensors", "best.safetensors", "model.safetensors"):
        assert fingerprint(folder / file) == fingerprint(uninterrupted / file), file


def test_a_second_signal_stops_at_once(tmp_path, text_file, monkeypatch, capsys):
    monkeypatch.setattr(signals, "REPETITION", 0.0)
    send_at_step(monkeypatch, 6, signal.SIGTERM, signal.SIGTERM)
    assert main(["train", "--text", text_file, "--out", str(tmp_path / "run"), *SMALL]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "interrupted by SIGTERM\n"
    assert open_run(tmp_path / "run").trainer.steps_done == 4, "the checkpoint before is intact"


def test_output_that_fails_is_an_error_after_a_checkpoint(tmp_path, text_file, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError(28, "No space left on device", "standard output")

    monkeypatch.setattr("npllm.cli.training_progress._show_step", fail)
    assert main(["train", "--text", text_file, "--out", str(tmp_path / "run"), *SMALL]) == 1
    assert capsys.readouterr().err == "npllm: standard output: No space left on device\n"
    assert open_run(tmp_path / "run").trainer.steps_done == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_signals_during_the_last_evaluation(tmp_path, text_file, number, status, monkeypatch, capsys):
    """Ctrl-C skips it, SIGTERM ends the command; the model is saved."""
    monkeypatch.setattr("npllm.cli.training_progress.evaluate", lambda *arguments: signal.raise_signal(number))
    assert main(["train", "--text", text_file, "--out", str(tmp_path / "run"), *SMALL]) == status
    assert "whole validation text" not in capsys.readouterr().out
    assert (tmp_path / "run" / "model.safetensors").exists()

"""matplotlib is an extra: without it every command runs, and says what to install where a figure is asked for."""

import pytest

from npllm.cli import options, training_progress
from npllm.cli.main import main


@pytest.fixture(autouse=True)
def no_matplotlib(monkeypatch):
    monkeypatch.setattr(options, "find_spec", lambda name: None)


@pytest.mark.parametrize("command", ["tour", "seq2seq"])
def test_figures_are_refused_before_the_work(command, tmp_path, capsys):
    assert main([command, "--figures", str(tmp_path)]) == 1
    assert "--figures needs matplotlib: install it with `python -m pip install matplotlib`" in capsys.readouterr().err


def test_training_leaves_out_the_plot(tmp_path, capsys):
    small = [
        "--num-steps",
        "2",
        "--d-model",
        "16",
        "--num-heads",
        "2",
        "--num-layers",
        "1",
        "--context-length",
        "8",
        "--batch-size",
        "2",
    ]
    assert main(["train", "--out", str(tmp_path / "run"), *small]) == 0
    assert "loss.png is not drawn, it needs matplotlib" in capsys.readouterr().out
    assert not (tmp_path / "run" / training_progress.PLOT).exists()

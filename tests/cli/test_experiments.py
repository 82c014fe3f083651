import json

import pytest

from npllm.cli.main import main
from npllm.experiments import catalog


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which no line is wrapped."""
    monkeypatch.setenv("COLUMNS", "400")


def test_the_list_names_every_experiment(capsys):
    assert main(["experiments"]) == 0
    out = capsys.readouterr().out
    for name in catalog.NAMES:
        assert name in out and catalog.load(name).claim in out


def test_a_run_prints_its_method_and_verdict_and_writes_results(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["experiments", "attention-scale", "--seed", "7", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    experiment = catalog.load("attention-scale")
    for text in (experiment.claim, experiment.question, experiment.rule, "verdict   supported"):
        assert text in out
    content = json.loads((tmp_path / "attention-scale.json").read_text(encoding="utf-8"))
    assert content["seeds"] == [7, 8, 9, 10, 11]
    assert (tmp_path / "attention-scale.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing"], "there is no experiment 'nothing'"),
        (["attention-scale", "nothing"], "there is no experiment 'nothing'"),
        (["--full"], "--full"),
        (["--out", "x"], "--out"),
    ],
)
def test_what_is_refused(capsys, arguments, message):
    try:
        status = main(["experiments", *arguments])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert status and message in captured.err and "verdict" not in captured.out

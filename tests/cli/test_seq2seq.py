import re

import numpy as np
import pytest

from npllm.cli.main import main


def seq2seq(capsys, *arguments):
    """Run the command and return what it prints."""
    assert main(["seq2seq", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("task", ["reverse", "copy", "numbers"])
def test_losses_accuracy_and_examples_are_printed(task, capsys):
    out = seq2seq(capsys, "--task", task, "--attention", "dot", "--steps", 12, "--cell", "rnn")
    assert f"{task}: rnn encoder and decoder, attention dot" in out
    assert [int(step) for step in re.findall(r"^step +(\d+)", out, re.MULTILINE)] == [2, 4, 6, 8, 10, 12]
    assert re.search(r"[\d.]+% of 500 validation examples are correct", out)
    assert sum(int(n) for n in re.findall(r"│ +(\d+) │ +\d+%", out)) == 500, "every example is in the table"
    assert out.count("→") == 5


def test_an_alignment_is_printed_and_drawn(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "new"
    out = seq2seq(capsys, "--task", "copy", "--attention", "general", "--steps", 100, "--figures", folder)
    table = out[out.index("Each row has the attention weights") :]
    rows = [[float(cell) for cell in re.findall(r"\d\.\d\d", line)] for line in table.split("\n")]
    rows = np.array([row for row in rows if row])
    assert len(rows) == rows.shape[1] + 1, "the letters and <eos>"
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=0.05)
    path = folder / "alignment-copy-general.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert f"drew {path}" in out


def test_without_attention_there_is_no_alignment(capsys):
    out = seq2seq(capsys, "--attention", "none", "--steps", 2)
    assert "Without attention there is no alignment" in out
    assert "Each row has" not in out


def test_the_same_seed_gives_the_same_output(capsys):
    first, again, other = (
        re.sub(r"in \d+\.\d s", "", seq2seq(capsys, "--steps", 5, "--seed", seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_invalid_options(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    pytest.importorskip("matplotlib")
    assert main(["seq2seq", "--figures", str(tmp_path / "file")]) == 1
    assert "a file; it must be a folder" in capsys.readouterr().err
    for arguments, message in (
        (["--steps", "0"], "argument --steps: it is 0; it must be at least 1"),
        (["--attention", "self"], "invalid choice: 'self'"),
        (["--attention", "none", "--figures", str(tmp_path)], "--figures draws alignments"),
        (["--readme", "README.md"], "unrecognized arguments: --readme"),
    ):
        with pytest.raises(SystemExit) as exit:
            main(["seq2seq", *arguments])
        assert exit.value.code == 2
        assert message in capsys.readouterr().err

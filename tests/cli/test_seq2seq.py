import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from npllm.cli.main import main
from npllm.cli.seq2seq import align_and_show
from npllm.lessons.alignment_figure import alignment_figure


def align(capsys, *arguments):
    """Run the command and return what it prints."""
    assert main(["seq2seq", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("task", ["reverse", "copy", "numbers"])
def test_what_it_prints(task, capsys):
    out = align(capsys, "--task", task, "--attention", "dot", "--steps", 12, "--cell", "rnn")
    assert f"{task}: rnn encoder and decoder, attention dot" in out
    assert [int(step) for step in re.findall(r"step +(\d+)", out)] == [2, 4, 6, 8, 10, 12]
    assert re.search(r"[\d.]+% of 500 unseen examples without a mistake", out)
    assert sum(int(n) for n in re.findall(r"│ +(\d+) │ +\d+%", out)) == 500, "every example stands in the table"
    assert out.count("→") == 5


def test_it_learns_and_shows_where_it_looked(capsys, tmp_path):
    out = align(capsys, "--task", "copy", "--attention", "additive", "--steps", 120, "--figures", tmp_path / "new")
    assert float(re.search(r"([\d.]+)% of 500", out)[1]) > 80
    table = out[out.index("Each written token is a row") :]
    rows = [[float(cell) for cell in re.findall(r"\d\.\d\d", line)] for line in table.split("\n")]
    rows = np.array([row for row in rows if row])
    assert rows.shape == (9, 8), "eight letters and the end"
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=0.05)
    path = tmp_path / "new" / "alignment-copy-additive.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert f"drew {path}" in out


def test_without_attention_there_is_nothing_to_show(capsys, tmp_path):
    out = align(capsys, "--attention", "none", "--steps", 2, "--figures", tmp_path)
    assert "Without attention there is no alignment" in out.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_the_readme_gets_it_beside_a_model_without_attention(capsys, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- align -->\nold\n<!-- /align -->\nafter\n")
    align_and_show(Console(), "copy", "additive", "gru", 120, 0, readme=path)
    out = capsys.readouterr().out
    both, content = out.split("copy: gru encoder and decoder, attention none"), path.read_text()
    assert content.startswith("before\n<!-- align -->\n120 steps, ")
    assert content.endswith("\n<!-- /align -->\nafter\n")
    shares = re.search(
        r"Of 500 unseen examples ([\d.]+%) are without a mistake with attention, ([\d.]+%) without", content
    )
    for share, printed in zip(shares.groups(), both, strict=True):
        assert f"{share} of 500" in printed
    table, picture = (
        [line.strip("|").split("|") for line in part.split("\n") if line.startswith("|")]
        for part in content.split("Each written token")
    )
    assert [cell.strip() for cell in table[0]] == [
        "tokens to write",
        "examples",
        "right, additive attention",
        "right, none",
    ]
    for length, examples, *right in [[cell.strip() for cell in line] for line in table[2:]]:
        for share, printed in zip(right, both, strict=True):
            assert re.search(rf"^ *{length} +│ +{examples} │ +{share} *$", printed, re.MULTILINE)
    weights = np.array([[float(cell) for cell in line[1:]] for line in picture[2:]])
    assert weights.shape == (9, 8), "eight letters and the end"
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=0.05)


def test_the_seed_decides(capsys):
    one, again, other = (align(capsys, "--steps", 5, "--seed", seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_wrong_usage(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["seq2seq", "--steps", "0"])
    assert "argument --steps: it is 0; it must be at least 1" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["seq2seq", "--figures", str(tmp_path / "file")]) == 1
    assert "a file; it must be a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["seq2seq", "--attention", "self"])


class TestFigure:
    WEIGHTS = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])

    def test_it_draws_every_alignment_with_its_names(self):
        drawn = [(self.WEIGHTS, ["x", "<end>"], ["a", "bb", "c"]), (self.WEIGHTS[:, :2], ["y", "z"], ["d", "e"])]
        figure = alignment_figure(drawn, "a title")
        assert isinstance(figure, Figure)
        assert figure.get_suptitle() == "a title"
        panels = figure.axes[:2]
        for panel, (weights, written, source) in zip(panels, drawn):
            np.testing.assert_array_equal(panel.images[0].get_array(), weights)
            assert [label.get_text() for label in panel.get_yticklabels()] == written
            assert [label.get_text() for label in panel.get_xticklabels()] == source

    def test_what_does_not_fit(self):
        with pytest.raises(ValueError, match=r"weights has shape \(2, 3\); it must be \(2, 2\), a row for each"):
            alignment_figure([(self.WEIGHTS, ["x", "y"], ["a", "b"])], "")
        with pytest.raises(ValueError, match="alignments is empty"):
            alignment_figure([], "")

import re

import numpy as np
import pytest

from npllm.cli.main import main


def words(capsys, *arguments):
    """Run the command and return what it prints, in a terminal that is wide enough."""
    assert main(["word2vec", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.fixture
def text_file(tmp_path):
    """Paragraphs of 200 words, each of one of four subjects; a subject has eight words, which begin with its letter."""
    rng = np.random.default_rng(0)
    subjects, words = rng.integers(0, 4, 100), rng.integers(0, 8, (100, 200))
    paragraphs = (" ".join(f"{'abcd'[i]}{'stuvwxyz'[j]}" for j in row) for i, row in zip(subjects, words))
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def rows(out):
    """The words of the table, each with its neighbours."""
    found = re.findall(r"^ *(\S+) +│ (.*)$", out, re.MULTILINE)
    return {word: re.findall(r"(\S+) (-?\d\.\d\d)", neighbours) for word, neighbours in found}


@pytest.mark.parametrize("model", ["skip-gram", "cbow"])
def test_words_of_the_same_company_are_near(capsys, text_file, model):
    out = words(capsys, "AV", "cx", "--text", text_file, "--model", model, "--steps", 250)
    table = rows(out)
    assert list(table) == ["av", "cx"]
    for word, neighbours in table.items():
        assert len(neighbours) == 6
        assert all(other[0] == word[0] and other != word for other, _ in neighbours), "of one subject"
        cosines = [float(cosine) for _, cosine in neighbours]
        assert cosines == sorted(cosines, reverse=True)
    assert "20,000 words, 32 different ones" in out


def test_the_story_and_the_words_that_are_shown(capsys):
    out = words(capsys, "--steps", 3)
    table = rows(out)
    assert len(table) == 10
    assert all(len(word) >= 4 for word in table)
    assert out.splitlines()[2:] == words(capsys, "--steps", 3, "--seed", 0).splitlines()[2:]
    assert rows(words(capsys, "--steps", 3, "--seed", 1)) != table


def test_wrong_usage(capsys, text_file):
    for arguments, message in (
        (["she", "elephant"], "'elephant' is not among the 209 words that come often enough in the text"),
        (["--corpus", "hamlet"], "name is 'hamlet'; it must be one of the known texts"),
        (["--text", f"{text_file}.no"], "does not exist; it must be a text file"),
    ):
        assert main(["word2vec", *arguments]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["word2vec", "--steps", "0"])
    assert "argument --steps: it is 0; it must be at least 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["word2vec", "--text", str(text_file), "--corpus", "story"])

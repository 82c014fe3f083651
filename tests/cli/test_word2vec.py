import re

import numpy as np
import pytest

from npllm.cli.main import main


def word2vec(capsys, *arguments):
    """Run the command and return what it prints."""
    assert main(["word2vec", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.fixture
def text_file(tmp_path):
    """100 paragraphs of 200 words, each about one of four topics; a topic has eight words, with a letter in common."""
    rng = np.random.default_rng(0)
    topics, words = rng.integers(0, 4, 100), rng.integers(0, 8, (100, 200))
    paragraphs = (" ".join(f"{'abcd'[i]}{'stuvwxyz'[j]}" for j in row) for i, row in zip(topics, words))
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which no line is wrapped."""
    monkeypatch.setenv("COLUMNS", "200")


def rows(out):
    """The words of the table, each with its similar words."""
    found = re.findall(r"^ *(\S+) +│ (.*)$", out, re.MULTILINE)
    return {word: re.findall(r"(\S+) (-?\d\.\d\d)", similar) for word, similar in found}


@pytest.mark.parametrize("model", ["skip-gram", "cbow"])
def test_words_of_one_topic_are_similar(capsys, text_file, model):
    out = word2vec(capsys, "AV", "cx", "--text", text_file, "--model", model, "--steps", 200)
    table = rows(out)
    assert list(table) == ["av", "cx"]
    for word, similar in table.items():
        assert len(similar) == 6
        assert all(other[0] == word[0] and other != word for other, _ in similar), "words of the same topic"
        cosines = [float(cosine) for _, cosine in similar]
        assert cosines == sorted(cosines, reverse=True)
    assert "20,000 words, 32 distinct" in out


def test_without_words_it_lists_ten_frequent_ones(capsys):
    first, again, other = (rows(word2vec(capsys, "--steps", 3, "--seed", seed)) for seed in (0, 0, 1))
    assert len(first) == 10
    assert all(len(word) >= 4 for word in first)
    assert first == again
    assert first != other


def test_invalid_arguments(capsys, text_file):
    for arguments, message in (
        (["she", "elephant"], "'elephant' is not among the 209 words that occur often enough in the text"),
        (["--corpus", "hamlet"], "is 'hamlet'; it must be one of"),
        (["--text", f"{text_file}.no"], "does not exist; it must be a text file"),
    ):
        assert main(["word2vec", *arguments]) == 1
        assert message in capsys.readouterr().err
    for arguments, message in (
        (["--steps", "0"], "argument --steps: it is 0; it must be at least 1"),
        (["--text", str(text_file), "--corpus", "story"], "not allowed with argument --text"),
    ):
        with pytest.raises(SystemExit):
            main(["word2vec", *arguments])
        assert message in capsys.readouterr().err

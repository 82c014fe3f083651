"""npllm tokenize: any vocabulary, files, JSON, and words that the vocabulary lacks."""

import json

import pytest

from npllm.cli.main import main
from npllm.tokenizers import CharacterTokenizer, train_bpe
from tests.tokenizers.peers import gpt2

TEXT = "The ferry, naïve 🦊\n"


def tokenize(capsys, *arguments):
    """The exit status, the output and the error message of the command."""
    try:
        status = main(["tokenize", *map(str, arguments)])
    except SystemExit as end:  # options that cannot be combined
        status = end.code
    return status, *capsys.readouterr()


def test_json_has_ids_tokens_and_offsets(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    gpt2().save(tmp_path / "tokenizer.json")
    for source in ([TEXT], ["--file", tmp_path / "text.txt"]):
        status, out, _ = tokenize(capsys, *source, "--vocabulary", tmp_path, "--json")
        result = json.loads(out)
        ids, offsets = gpt2().encode_with_offsets(TEXT)
        assert (status, result["ids"], result["offsets"]) == (0, ids.tolist(), offsets.tolist())
        assert result["tokens"][:3] == ["The", " ferry", ","]
        assert "<9f>" in "".join(result["tokens"]), "a part of a character"


def test_json_without_a_vocabulary_has_three_tokenizers(capsys):
    result = json.loads(tokenize(capsys, "the blorptangle", "--json")[1])
    assert list(result) == ["words", "bpe", "gpt2"]
    assert result["gpt2"]["ids"] == gpt2().encode("the blorptangle")
    assert (result["words"]["tokens"], result["words"]["unknown"]) == (["the", "blorptangle"], ["blorptangle"])


def test_unknown_words_are_shown(capsys):
    out = tokenize(capsys, "the blorptangle and the vergle")[1]
    assert "not in the vocabulary: 'blorptangle', 'vergle'; each has the id of <|unk|>" in out.replace("\n", " ")
    assert "<|unk|>│" not in out
    assert "not in the vocabulary" not in tokenize(capsys, "the")[1]


def test_tokens_of_a_vocabulary(tmp_path, capsys):
    train_bpe(TEXT * 9, 270).save(tmp_path / "v.tiktoken")
    status, out, _ = tokenize(capsys, TEXT, "--vocabulary", tmp_path / "v.tiktoken", "--pattern", "cl100k")
    assert status == 0
    assert "v.tiktoken" in out
    assert "270 tokens" in out


def test_characters_have_no_offsets(tmp_path, capsys):
    CharacterTokenizer("abc").save(tmp_path / "vocabulary.json")
    assert json.loads(tokenize(capsys, "cab", "--vocabulary", tmp_path, "--json")[1]) == {
        "ids": [2, 0, 1],
        "tokens": ["c", "a", "b"],
    }
    status, _, err = tokenize(capsys, "dab", "--vocabulary", tmp_path, "--json")
    assert status == 1
    assert "'d' is not among the 3 characters" in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "give either TEXT or --file FILE"),
        (["a", "--file", "b"], 2, "give either TEXT or --file FILE"),
        (["a", "--pattern", "gpt2"], 2, "--pattern belongs to the file of --vocabulary"),
        (["a", "--vocabulary", "nowhere"], 1, "there is no file or folder nowhere"),
        (["--file", "nowhere.txt"], 1, "nowhere.txt does not exist"),
    ],
)
def test_errors(capsys, arguments, status, message):
    result = tokenize(capsys, *arguments)
    assert result[0] == status
    assert message in result[2].replace("\n", " ")


def test_the_vocabulary_is_a_name_of_a_model(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NPLLM_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a-model").mkdir()
    gpt2().save(tmp_path / "a-model" / "tokenizer.json")
    (tmp_path / "a-model" / "config.json").write_text("{}", encoding="utf-8")
    status, out, _ = tokenize(capsys, TEXT, "--vocabulary", "a-model", "--json")
    assert (status, json.loads(out)["ids"]) == (0, gpt2().encode(TEXT))
    status, _, error = tokenize(capsys, TEXT, "--vocabulary", "smollm2")
    assert (status, "`npllm models fetch smollm2` downloads it" in error) == (2, True)

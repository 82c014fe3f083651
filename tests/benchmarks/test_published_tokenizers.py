"""The comparison of published tokenizers: a file that opens, one that is refused, and the table."""

from dataclasses import asdict

from benchmarks.published_tokenizers import Source, compare, markdown, random_strings
from npllm.tokenizers import train_bpe

TEXT = "It's 1234 naïve 日本 words\n\n  x. low lower lowest"


def source(owner, pattern=None):
    return Source("a file", "pip", "none", "0", "", owner, pattern)


def test_a_file_is_compared_with_its_library(tmp_path):
    train_bpe(TEXT * 9, 320, special_tokens=["<|x|>"]).save(tmp_path / "tokenizer.json")
    row = compare(source("tokenizers"), tmp_path / "tokenizer.json", 30, timed=False)
    assert (row.refusal, row.ids, row.decode, row.offsets, row.strings) == (None, 30, 30, 30, 30)
    train_bpe(TEXT * 9, 320).save(tmp_path / "cl100k_base.tiktoken")
    row = compare(source("tiktoken", "cl100k"), tmp_path / "cl100k_base.tiktoken", 30, timed=False)
    assert (row.ids, row.decode, row.offsets) == (30, 30, 30)


def test_a_wrong_pattern_is_found(tmp_path):
    train_bpe(TEXT * 9, 320).save(tmp_path / "cl100k_base.tiktoken")
    assert compare(source("tiktoken", "gpt2"), tmp_path / "cl100k_base.tiktoken", 100, timed=False).ids < 100


def test_the_table_has_refusals(tmp_path):
    (tmp_path / "v.tiktoken").write_text("IQ== 0\n")
    rows = [compare(source("tiktoken", "gpt2"), tmp_path / "v.tiktoken", 1, timed=False)]
    train_bpe(TEXT, 300).save(tmp_path / "tokenizer.json")
    rows.append(compare(source("tokenizers"), tmp_path / "tokenizer.json", 5, timed=False))
    table = markdown({"strings": 5, "files": [asdict(row) for row in rows]})
    assert table.startswith("1 of 2 files open; the ids of 1 are equal on all of their strings.")
    assert "refused: v.tiktoken holds tokens and ranks without the pattern" in table
    assert "| 5/5 | 5/5 | 5/5 | – | – | – |" in table


def test_random_strings_are_the_same_every_time():
    assert random_strings(20, ["<|x|>"]) == random_strings(20, ["<|x|>"])
    assert any("<|x|>" in text for text in random_strings(200, ["<|x|>"]))

"""Saving and loading by file name; each format is opened by the library that it comes from."""

import tempfile
from functools import lru_cache

import pytest
import tiktoken.load
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, train_bpe
from tests.strategies import texts
from tests.tokenizers.peers import TIKTOKEN_GPT2_PATTERN, gpt2, plain_texts

NPLLM_FORMAT = '{"format": "npllm byte pair encoding", "version": 1, '


@pytest.fixture
def tokenizer():
    return train_bpe("low lower lowest new newer newest\n" * 3 + "naïve café 日本", 300, special_tokens=["<|x|>"])


@pytest.fixture
def no_tiktoken_cache(monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")


def same(one, other):
    return (one.ranks, one.pattern, one.special_tokens) == (other.ranks, other.pattern, other.special_tokens)


@given(texts, st.integers(0, 50))
def test_round_trip_through_every_format(tmp_path_factory, text, num_merges):
    tokenizer = train_bpe(text, 257 + num_merges, special_tokens=["<|x|>"])
    folder = tmp_path_factory.mktemp("vocabulary")
    for name in ("own.json", "ranks.tiktoken", "openai"):
        tokenizer.save(folder / name)
    assert same(BPETokenizer.load(folder / "own.json"), tokenizer)
    assert same(BPETokenizer.load(folder / "openai"), tokenizer)
    ranks_only = BPETokenizer.load(folder / "ranks.tiktoken", "gpt2")
    assert (ranks_only.ranks, ranks_only.special_tokens) == (tokenizer.ranks, {})
    assert same(BPETokenizer.load(folder / "ranks.tiktoken", "gpt2", tokenizer.special_tokens), tokenizer)


def test_another_pattern_is_kept(tmp_path):
    tokenizer = train_bpe("one two one two", 260, pattern=r"\S+|\s+")
    tokenizer.save(tmp_path / "own.json")
    assert BPETokenizer.load(tmp_path / "own.json").pattern == r"\S+|\s+"


def test_round_trip_of_gpt2(tmp_path):
    for name in ("own.json", "ranks.tiktoken", "openai"):
        gpt2().save(tmp_path / name)
        loaded = BPETokenizer.load(tmp_path / name, special_tokens=gpt2().special_tokens)
        assert same(loaded, gpt2())


def test_tiktoken_reads_our_files(tokenizer, tmp_path, no_tiktoken_cache):
    tokenizer.save(tmp_path / "ranks.tiktoken")
    assert tiktoken.load.load_tiktoken_bpe(str(tmp_path / "ranks.tiktoken")) == tokenizer.ranks
    trained_by_id = train_bpe("low lower lowest\n" * 9, 270, special_tokens=["<|endoftext|>"], tie_break="id")
    for one in (gpt2(), trained_by_id):
        one.save(tmp_path / "openai")
        files = str(tmp_path / "openai" / "vocab.bpe"), str(tmp_path / "openai" / "encoder.json")
        assert tiktoken.load.data_gym_to_mergeable_bpe_ranks(*files) == one.ranks


@given(plain_texts)
def test_the_library_of_each_format_gives_the_same_ids(text):
    ids = gpt2().encode(text, disallowed_special=())
    tiktokens, hugging_faces, transformers_own = libraries()
    assert [encoding.encode_ordinary(text) for encoding in tiktokens] == [ids, ids]
    assert hugging_faces.encode(text).ids == ids
    with_special = gpt2().encode(text, allowed_special="all")
    assert transformers_own.encode(text) == with_special


@lru_cache
def libraries():
    """GPT-2 as we save it: read by tiktoken from either format, by tokenizers and transformers from OpenAI's."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        gpt2().save(f"{folder}/ranks.tiktoken")
        gpt2().save(f"{folder}/openai")
        merges, encoder = f"{folder}/openai/vocab.bpe", f"{folder}/openai/encoder.json"
        ranks = tiktoken.load.load_tiktoken_bpe(f"{folder}/ranks.tiktoken")
        tiktokens = [
            tiktoken.Encoding("theirs", pat_str=TIKTOKEN_GPT2_PATTERN, mergeable_ranks=table, special_tokens={})
            for table in (ranks, tiktoken.load.data_gym_to_mergeable_bpe_ranks(merges, encoder))
        ]
        hugging_faces = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(encoder, merges))
        hugging_faces.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return tiktokens, hugging_faces, transformers.GPT2Tokenizer(encoder, merges)


def test_an_interrupted_save_keeps_the_old_file(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "own.json"
    tokenizer.save(path)
    before = path.read_bytes()

    def broken(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(KeyboardInterrupt):
        train_bpe("other text", 260).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.json", "{", "v.json is not valid JSON"),
        ("v.json", "[]", 'does not contain "format"'),
        ("v.json", '{"format": "something else"}', 'does not contain "format"'),
        ("v.json", '{"model_type": "llama"}', "the configuration of a model .give the folder., does not contain"),
        ("v.json", '{"tokenizer_class": "x"}', "a tokenizer_config.json, which belongs to a vocabulary"),
        ("v.json", '{"format": "npllm byte pair encoding", "version": 1}', "must have a pattern"),
        (
            "v.json",
            NPLLM_FORMAT + '"pattern": "x", "special_tokens": {}, "ranks": {"a": "b"}}',
            "must have a pattern",
        ),
        (
            "v.json",
            NPLLM_FORMAT + '"pattern": "x", "special_tokens": {}, "ranks": {" ": 1}}',
            "represents no byte",
        ),
        ("v.tiktoken", "IQ== 0\nnonsense\n", "line 2, .* must be base64, a space and a rank"),
        ("v.tiktoken", "IQ== 0\n\nIQ== 1\n", "repeats the token .* in line 3"),
        ("v.bpe", "#version: 0.2\na b c\n", "line 2 of the merges is 'a b c'"),
    ],
)
def test_invalid_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        BPETokenizer.load(tmp_path / name)

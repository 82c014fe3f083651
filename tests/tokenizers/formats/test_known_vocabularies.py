"""The pattern of files without one: by SHA-256, by name, by argument; otherwise it is asked for."""

import hashlib

import pytest

from npllm.tokenizers import CL100K_PATTERN, GPT2_PATTERN, O200K_PATTERN, BPETokenizer, load_tokenizer, train_bpe
from npllm.tokenizers.formats import known_vocabularies
from npllm.tokenizers.formats.tiktoken_ranks import to_tiktoken
from tests.tokenizers.peers import gpt2

TEXT = "I'll 12345 WE'LL do it 2024-12345\r\n\r\n x  y "


@pytest.fixture(scope="module")
def trained():
    return train_bpe(TEXT * 30, vocab_size=300, pattern=CL100K_PATTERN)


def saved(tokenizer, path):
    path.write_bytes(to_tiktoken(tokenizer.ranks))
    return path


def test_the_ranks_of_gpt2_are_known_by_their_hash(tmp_path):
    loaded = load_tokenizer(saved(gpt2(), tmp_path / "any.tiktoken"))
    assert (loaded.pattern, loaded.special_tokens) == (GPT2_PATTERN, {"<|endoftext|>": 50256})


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("cl100k_base", CL100K_PATTERN),
        ("o200k_base", O200K_PATTERN),
        ("p50k_base", GPT2_PATTERN),
        ("gpt2", GPT2_PATTERN),
    ],
)
def test_the_name_of_an_encoding_states_the_pattern(trained, tmp_path, name, pattern):
    loaded = BPETokenizer.load(saved(trained, tmp_path / f"{name}.tiktoken"))
    assert (loaded.pattern, loaded.special_tokens) == (pattern, {})
    if pattern == CL100K_PATTERN:
        assert loaded.encode(TEXT) == trained.encode(TEXT)


@pytest.mark.parametrize("name", ["tokenizer.model", "vocabulary.tiktoken", "ranks"])
@pytest.mark.parametrize("load", [load_tokenizer, BPETokenizer.load])
def test_any_other_file_of_ranks_needs_a_pattern(trained, tmp_path, name, load):
    path = saved(trained, tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} holds tokens and ranks without the pattern .* pass pattern"):
        load(path)
    for pattern in ("cl100k", CL100K_PATTERN):
        assert load(path, pattern=pattern).encode(TEXT) == trained.encode(TEXT)


def test_the_argument_replaces_what_is_known(tmp_path):
    loaded = load_tokenizer(saved(gpt2(), tmp_path / "v"), pattern="llama3", special_tokens={"<|x|>": 60_000})
    assert (loaded.pattern, loaded.special_tokens) == (known_vocabularies.LLAMA3_PATTERN, {"<|x|>": 60_000})


def test_special_tokens_follow_the_ranks():
    sizes = {"llama3": (128000, 256), "llama4": (200000, 2048), "qwen": (151643, 208), "qwen35": (248044, 33)}
    for name, (first, count) in sizes.items():
        ids = list(getattr(known_vocabularies, f"_{name}")().values())
        assert ids == list(range(first, first + count))
    assert known_vocabularies._llama3()["<|eot_id|>"] == 128009
    assert known_vocabularies._llama4()["<|eot|>"] == 200008


def test_an_unknown_content_is_not_known():
    assert known_vocabularies.known_vocabulary(b"IQ== 0\n") is None
    assert all(len(digest) == 64 for digest in known_vocabularies.BY_SHA256)
    assert hashlib.sha256(to_tiktoken(gpt2().ranks)).hexdigest() in known_vocabularies.BY_SHA256

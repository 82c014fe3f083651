import hashlib

import pytest

from npllm.tokenizers import BPETokenizer, GPT2Tokenizer
from npllm.tokenizers import gpt2 as module
from npllm.utils.files import data_folder
from tests.tokenizers.peers import gpt2, gpt2_tiktoken


def test_a_few_well_known_ids():
    assert gpt2().encode("Hello, world!") == [15496, 11, 995, 0]
    assert gpt2().encode("<|endoftext|>", allowed_special="all") == [50256]
    assert gpt2().encode("Akwirw ier") == [33901, 86, 343, 86, 220, 959]
    assert isinstance(gpt2(), BPETokenizer)


def test_every_token_by_itself():
    for token_id in range(0, 50257, 7):
        data = gpt2().decode_bytes([token_id])
        assert data == gpt2_tiktoken().decode_single_token_bytes(token_id)
        text = data.decode("utf-8", "replace")
        assert gpt2().encode_ordinary(text) == gpt2_tiktoken().encode_ordinary(text)


def test_the_story_and_the_projects_own_sources(story):
    sources = [path.read_text() for path in module.Path(module.__file__).parent.glob("*.py")]
    for text in (story, *sources):
        assert gpt2().encode(text, disallowed_special=()) == gpt2_tiktoken().encode(text, disallowed_special=())


def test_a_given_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="path must be a vocab.bpe or a folder with one"):
        GPT2Tokenizer.load(tmp_path)
    gpt2().save(tmp_path / "folder")
    assert GPT2Tokenizer.load(tmp_path / "folder").ranks == gpt2().ranks
    assert GPT2Tokenizer.load(tmp_path / "folder" / "vocab.bpe").ranks == gpt2().ranks


def test_the_shipped_file_and_its_licence():
    assert hashlib.sha256((data_folder() / "gpt2" / "vocab.bpe").read_bytes()).hexdigest() == module.SHA256
    assert "Copyright (c) 2019 OpenAI" in (data_folder() / "gpt2" / "LICENSE").read_text(encoding="utf-8")


def test_other_merges_are_not_taken_for_gpt2s(tmp_path):
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\na b\n")
    with pytest.raises(ValueError, match="is not GPT-2's vocab.bpe"):
        GPT2Tokenizer.load(tmp_path)

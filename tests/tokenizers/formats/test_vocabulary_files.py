import base64
import json
import tempfile
from functools import lru_cache

import pytest
import tiktoken.load
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from tests.strategies import texts
from tests.tokenizers.peers import TIKTOKEN_GPT2_PATTERN, gpt2, plain_texts

OWN_FORMAT = '{"format": "npllm byte pair encoding", "version": 1, '


@pytest.fixture
def tokenizer():
    return train_bpe("low lower lowest new newer newest\n" * 3 + "naïve café 日本", 300, special_tokens=["<|x|>"])


@pytest.fixture
def no_tiktoken_cache(monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")


def same(one, other):
    return (one.ranks, one.pattern, one.special_tokens) == (other.ranks, other.pattern, other.special_tokens)


@given(texts, st.integers(0, 50))
def test_every_format_gives_back_what_it_holds(tmp_path_factory, text, num_merges):
    tokenizer = train_bpe(text, 257 + num_merges, special_tokens=["<|x|>"])
    folder = tmp_path_factory.mktemp("vocabulary")
    for name in ("own.json", "ranks.tiktoken", "openai"):
        tokenizer.save(folder / name)
    assert same(BPETokenizer.load(folder / "own.json"), tokenizer)
    assert same(BPETokenizer.load(folder / "openai"), tokenizer)
    ranks_only = BPETokenizer.load(folder / "ranks.tiktoken")
    assert (ranks_only.ranks, ranks_only.special_tokens) == (tokenizer.ranks, {})
    assert same(BPETokenizer.load(folder / "ranks.tiktoken", special_tokens=tokenizer.special_tokens), tokenizer)


def test_another_pattern_is_kept(tmp_path):
    tokenizer = train_bpe("one two one two", 260, pattern=r"\S+|\s+")
    tokenizer.save(tmp_path / "own.json")
    assert BPETokenizer.load(tmp_path / "own.json").pattern == r"\S+|\s+"


def test_gpt2_survives_every_format(tmp_path):
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
def test_the_owners_of_a_format_give_the_same_ids(text):
    ids = gpt2().encode(text, disallowed_special=())
    tiktokens, hugging_faces, transformers_own = owners()
    assert [encoding.encode_ordinary(text) for encoding in tiktokens] == [ids, ids]
    assert hugging_faces.encode(text).ids == ids
    with_special = gpt2().encode(text, allowed_special="all")
    assert transformers_own.encode(text) == with_special


@lru_cache
def owners():
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


def test_we_read_a_rank_file_line_by_line(tokenizer, tmp_path):
    with open(tmp_path / "theirs.tiktoken", "wb") as file:
        for token, rank in tokenizer.ranks.items():
            file.write(base64.b64encode(token) + b" " + str(rank).encode() + b"\n")
    assert BPETokenizer.load(tmp_path / "theirs.tiktoken").ranks == tokenizer.ranks


def test_an_interrupted_save_leaves_the_old_file(tokenizer, tmp_path, monkeypatch):
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
        ("v.json", "{", "not a vocabulary in the format of its name"),
        ("v.json", "[]", 'does not contain "format"'),
        ("v.json", '{"format": "something else"}', 'does not contain "format"'),
        ("encoder.json", "{}", "for OpenAI's files, give the folder"),
        ("v.json", '{"format": "npllm byte pair encoding", "version": 1}', "must have a pattern"),
        (
            "v.json",
            OWN_FORMAT + '"pattern": "x", "special_tokens": {}, "ranks": {"a": "b"}}',
            "must have a pattern",
        ),
        (
            "v.json",
            OWN_FORMAT + '"pattern": "x", "special_tokens": {}, "ranks": {" ": 1}}',
            "represents no byte",
        ),
        ("v.tiktoken", "IQ== 0\nnonsense\n", "line 2 of .* must be base64, a space and a rank"),
        ("v.tiktoken", "IQ== 0\n\nIQ== 1\n", "line 3 of .* repeats the token"),
        ("v.tiktoken", "IQ== 0\n", "no token for byte 0"),
        ("v.bpe", "#version: 0.2\na b c\n", "line 2 of the merges is 'a b c'"),
    ],
)
def test_broken_files_are_refused_with_a_reason(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        BPETokenizer.load(tmp_path / name)


def test_broken_folders_are_refused_with_a_reason(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "v")
    encoder = json.loads((tmp_path / "v" / "encoder.json").read_text())
    first, second = (token_to_unicode(left + right) for left, right in tokenizer.merges()[:2])
    for broken, message in (
        (encoder | {first: encoder[second], second: encoder[first]}, "do not increase in the order of the merges"),
        ({key: value for key, value in encoder.items() if key != first}, "has no id in encoder.json"),
        (list(encoder), "must be an object"),
    ):
        (tmp_path / "v" / "encoder.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=message):
            BPETokenizer.load(tmp_path / "v")
    (tmp_path / "v" / "encoder.json").write_text("{")
    with pytest.raises(ValueError, match="does not hold OpenAI's encoder.json and vocab.bpe"):
        BPETokenizer.load(tmp_path / "v")
    (tmp_path / "v" / "vocab.bpe").unlink()
    with pytest.raises(FileNotFoundError, match="no vocab.bpe"):
        BPETokenizer.load(tmp_path / "v")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        BPETokenizer.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"it must end in .json or .tiktoken, or be a folder"):
        tokenizer.save(tmp_path / "v.txt")


@pytest.mark.parametrize("special", ["a", "ab", "Ġ"])
def test_openais_format_refuses_a_special_token_that_reads_like_a_token(tmp_path, special):
    tokenizer = train_bpe("ab ab ab", 257, pattern=r"\S+|\s", special_tokens=[])
    tokenizer = BPETokenizer(tokenizer.ranks, special_tokens={special: 300})
    with pytest.raises(ValueError, match="cannot distinguish the special token"):
        tokenizer.save(tmp_path / "openai")
    assert not (tmp_path / "openai").exists()
    tokenizer.save(tmp_path / "own.json")
    assert BPETokenizer.load(tmp_path / "own.json").special_tokens == {special: 300}

"""load_tokenizer: every format in a file and in a folder, each against the tokenizer that was saved."""

import json

import pytest
import tokenizers

from npllm.tokenizers import PATTERNS, CharacterTokenizer, SentencePieceTokenizer, load_tokenizer, train_bpe
from tests.tokenizers.formats.test_file_kind import SENTENCEPIECE
from tests.tokenizers.formats.test_gguf import metadata
from tests.tokenizers.peers import gpt2

TEXT = "It's 1234 naïve 日本 words\n\n  x. low lower lowest"
ODD = ["", " ", "a  b\n", "naïve 🦊", "it's 12345", "<|endoftext|>"]


@pytest.fixture(scope="module")
def trained():
    return train_bpe(TEXT * 9, 320, special_tokens=["<|endoftext|>"])


def ids(tokenizer):
    return [tokenizer.encode(text, disallowed_special=()) for text in (TEXT, *ODD)]


@pytest.mark.parametrize("name", ["vocabulary.json", "tokenizer.json", "v.tiktoken", "encoder.json"])
def test_what_npllm_saves(trained, tmp_path, name):
    trained.save(tmp_path if name == "encoder.json" else tmp_path / name)
    pattern = "gpt2" if name == "v.tiktoken" else None
    for path in (tmp_path, tmp_path / name):
        loaded = load_tokenizer(path, pattern=pattern)
        assert ids(loaded) == ids(trained)
        assert loaded.special_tokens == ({} if name == "v.tiktoken" else trained.special_tokens)


def test_the_older_pair_of_hugging_face(tmp_path):
    reference = tokenizers.ByteLevelBPETokenizer()
    reference.train_from_iterator([TEXT] * 9, vocab_size=300)
    reference._tokenizer.model.save(str(tmp_path))
    for path in (tmp_path, tmp_path / "vocab.json", tmp_path / "merges.txt"):
        tokenizer = load_tokenizer(path)
        assert ids(tokenizer) == [reference.encode(text).ids for text in (TEXT, *ODD)]
    (tmp_path / "merges.txt").unlink()
    for path in (tmp_path, tmp_path / "vocab.json"):
        with pytest.raises(FileNotFoundError, match="there is no merges.txt .* vocab.json needs it"):
            load_tokenizer(path)


def test_a_pair_with_ends_of_words_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "a</w>": 1, "b</w>": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match="marks ends of words with </w>, as CLIP does"):
        load_tokenizer(tmp_path)


def test_characters(tmp_path):
    CharacterTokenizer("abc").save(tmp_path / "vocabulary.json")
    for path in (tmp_path, tmp_path / "vocabulary.json"):
        assert load_tokenizer(path).encode("cab") == [2, 0, 1]


def test_a_sentencepiece_model(tmp_path):
    trainer = b"\x12\x02\x18\x02"  # model_type BPE
    (tmp_path / "tokenizer.model").write_bytes(SENTENCEPIECE + b"\n\x0a\n\x03\xe2\x96\x81\x15\0\0\0\0" + trainer)
    for path in (tmp_path, tmp_path / "tokenizer.model"):
        assert isinstance(load_tokenizer(path), SentencePieceTokenizer)
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    with pytest.raises(ValueError, match="tokenizer.model is not a SentencePiece model that npllm can read"):
        load_tokenizer(tmp_path)


def test_a_gguf_file(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    fields = {name.removeprefix("tokenizer.ggml."): value for name, value in metadata().items()}
    writer.add_tokenizer_model(fields["model"])
    writer.add_tokenizer_pre(fields["pre"])
    writer.add_token_list(fields["tokens"])
    writer.add_token_types(fields["token_type"])
    writer.add_token_merges(fields["merges"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    for path in (tmp_path, tmp_path / "m.gguf"):
        assert load_tokenizer(path).special_tokens == {"<|endoftext|>": 0, "<|im_start|>": 1}


def test_a_folder_without_a_vocabulary_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="there is no vocabulary in"):
        load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        load_tokenizer(tmp_path / "nothing")


def test_a_folder_with_two_vocabularies_of_one_kind_is_refused(tmp_path):
    for name in ("a.tiktoken", "b.tiktoken"):
        gpt2().save(tmp_path / name)
    with pytest.raises(ValueError, match="has 2 vocabularies, a.tiktoken, b.tiktoken; give the path of one"):
        load_tokenizer(tmp_path)


def test_added_tokens_of_tokenizer_config_json(trained, tmp_path):
    trained.save(tmp_path / "tokenizer.json")
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    size = trained.vocab_size
    listed = {str(size - 1): {"content": "<|endoftext|>", **flags}, str(size): {"content": "<|new|>", **flags}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}))
    assert load_tokenizer(tmp_path).special_tokens == trained.special_tokens | {"<|new|>": size}


def test_padding_to_the_longest_of_a_batch_does_not_matter(trained, tmp_path):
    trained.save(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["padding"] = {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert ids(load_tokenizer(tmp_path)) == ids(trained)


@pytest.mark.parametrize(
    ("file", "content", "pattern"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"}, "gpt2"),
        ("tokenizer_config.json", {"tokenizer_class": "Qwen2TokenizerFast"}, "qwen2"),
        ("config.json", {"model_type": "roberta"}, "gpt2"),
        ("config.json", {"model_type": "qwen3"}, "qwen2"),
        ("config.json", {"model_type": "llama"}, None),
        ("tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"}, None),
    ],
)
def test_the_pattern_of_a_pair_in_a_model_folder(tmp_path, file, content, pattern):
    reference = tokenizers.ByteLevelBPETokenizer()
    reference.train_from_iterator([TEXT] * 9, vocab_size=300)
    reference._tokenizer.model.save(str(tmp_path))
    (tmp_path / file).write_text(json.dumps(content))
    for path in (tmp_path, tmp_path / "vocab.json", tmp_path / "merges.txt"):
        if pattern is None:
            with pytest.raises(ValueError, match=f"{file} says that it belongs to .*; give a tokenizer.json, or pass"):
                load_tokenizer(path)
            assert load_tokenizer(path, pattern="llama3").pattern == PATTERNS["llama3"]
        else:
            assert load_tokenizer(path).pattern == PATTERNS[pattern]


def test_an_id_that_is_too_large_is_refused_with_the_name_of_the_file(tmp_path):
    alphabet = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256)]] + [
        chr(256 + i) for i in range(68)
    ]
    vocab = {token: i for i, token in enumerate(alphabet)} | {"zz": 2**70}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": vocab, "merges": [["z", "z"]]}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": model, "pre_tokenizer": level, "decoder": level, "added_tokens": []}))
    with pytest.raises(ValueError, match=rf"tokenizer\.json.*{2**70}"):
        load_tokenizer(path)

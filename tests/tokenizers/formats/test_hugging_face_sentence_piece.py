"""tokenizer.json of character-level BPE, opened by Hugging Face's tokenizers and by npllm."""

import json
import random
from functools import cache

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import SentencePieceTokenizer
from npllm.tokenizers.formats.hugging_face_sentence_piece_writer import to_tokenizer_json_sp
from tests.tokenizers.character_vocabularies import (
    BYTES,
    FUSE,
    LLAMA_DECODER,
    LLAMA_NORMALIZER,
    PREPEND,
    REPLACE_SPACES,
    REPLACE_SYMBOLS,
    TEMPLATE,
    add_token,
    llama_like,
    texts,
)


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def split_at(text, behavior="MergedWithPrevious"):
    return {"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": False}


def sequence(*decoders):
    return {"type": "Sequence", "decoders": [*decoders]}


NORMALIZERS = [
    None,
    {"type": "Sequence", "normalizers": []},
    REPLACE_SPACES,
    LLAMA_NORMALIZER,
    PREPEND,
    {"type": "Sequence", "normalizers": [{"type": "NFKC"}, LLAMA_NORMALIZER]},
    {"type": "Sequence", "normalizers": [{"type": "NFC"}, REPLACE_SPACES]},
    {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": " +"}, "content": "▁"}]},
]
PRE_TOKENIZERS = [
    None,
    *(metaspace(scheme, split) for scheme in ("always", "first", "never") for split in (True, False)),
    {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
    split_at(" "),
    split_at("e"),
    split_at("▁", "MergedWithNext"),
]
DECODERS = [
    LLAMA_DECODER,
    sequence(REPLACE_SYMBOLS, BYTES, FUSE),
    sequence(BYTES, REPLACE_SYMBOLS, FUSE, {"type": "Strip", "content": " ", "start": 2, "stop": 0}),
    REPLACE_SYMBOLS,
    metaspace("always", True),
    sequence(BYTES, metaspace("first", True)),
    sequence(metaspace("never", True), BYTES),
]
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def random_content(seed):
    """The content of a tokenizer.json whose components and options are drawn."""
    draw = random.Random(seed)
    byte_tokens = draw.choice([range(256), [], [byte for byte in range(256) if draw.random() < 0.8]])
    content = llama_like(
        draw.choice(["words", "lines"]),
        byte_tokens,
        byte_fallback=draw.random() < 0.7,
        fuse_unk=draw.random() < 0.5,
        unk_token=draw.choice([None, "<unk>"]),
        ignore_merges=draw.random() < 0.3,
    )
    content["normalizer"] = draw.choice(NORMALIZERS)
    several = content["normalizer"] == NORMALIZERS[-1]  # refused before a Metaspace with prepend_scheme first
    content["pre_tokenizer"] = draw.choice([None] if several else PRE_TOKENIZERS)
    content["decoder"] = draw.choice(DECODERS)
    content["post_processor"] = draw.choice([None, TEMPLATE])
    for text in ("<mask>", "<w>", "aaa", " the"):
        if draw.random() < 0.4:
            add_token(content, text, **{flag: draw.random() < 0.3 for flag in FLAGS})
    return content


@cache
def libraries(seed):
    """(ours, theirs, True if characters can be left out) for the content of a file."""
    content = random_content(seed)
    model = content["model"]
    num_bytes = sum(f"<0x{byte:02X}>" in model["vocab"] for byte in range(256))
    complete = model["byte_fallback"] and num_bytes == 256
    leaves_out = not complete and (model["unk_token"] is None or model["byte_fallback"])
    return SentencePieceTokenizer.from_tokenizer_json(content), opened(content), leaves_out


def opened(content):
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def loaded(content):
    return SentencePieceTokenizer.from_tokenizer_json(content)


class TestRandomFiles:
    @given(st.integers(0, 60), texts)
    def test_ids_and_decoded_text_equal_those_of_tokenizers(self, seed, text):
        ours, theirs, _ = libraries(seed)
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, allowed_special="all") == ids
        assert ours.encode(text, allowed_special="all", add_special_tokens=True) == theirs.encode(text).ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)

    @given(st.integers(0, 60), texts)
    def test_offsets_equal_those_of_tokenizers_unless_characters_are_left_out(self, seed, text):
        ours, theirs, leaves_out = libraries(seed)
        expected = theirs.encode(text, add_special_tokens=False)
        ids, offsets = ours.encode_with_offsets(text, allowed_special="all")
        assert ids.tolist() == expected.ids
        if not leaves_out:  # tokenizers does not count a character that it leaves out, so its later offsets are wrong
            assert [tuple(pair) for pair in offsets.tolist()] == expected.offsets

    @given(st.integers(0, 60), st.data())
    def test_any_ids_are_decoded_as_by_tokenizers(self, seed, data):
        ours, theirs, _ = libraries(seed)
        ids = data.draw(st.lists(st.sampled_from(sorted(ours.token_ids())), max_size=15))
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)

    @given(st.integers(0, 60), texts)
    def test_a_saved_file_gives_the_same_ids_in_tokenizers(self, seed, text):
        ours, theirs, _ = libraries(seed)
        saved = _saved(seed)
        expected = theirs.encode(text)
        assert saved.encode(text).ids == expected.ids
        assert saved.decode(expected.ids, skip_special_tokens=False) == ours.decode(expected.ids)


@cache
def _saved(seed):
    return opened(to_tokenizer_json_sp(libraries(seed)[0].vocabulary))


def test_many_short_texts_between_added_tokens_are_encoded_as_one_by_one():
    content = llama_like()
    add_token(content, "\n")
    ours, theirs = loaded(content), opened(content)
    text = "a line of text\n\n" * 100 + "the end"
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_a_file_without_a_model_type_is_bpe_and_merges_may_be_texts():
    content = llama_like()
    expected = loaded(content).encode("the first")
    del content["model"]["type"]
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"] if " " not in "".join(pair)]
    assert loaded(content).encode("the first") == expected


def test_every_obstacle_is_named_at_once():
    content = llama_like(dropout=0.1, end_of_word_suffix="</w>")
    content |= {
        "normalizer": {"type": "Sequence", "normalizers": [PREPEND, {"type": "BertNormalizer"}]},
        "pre_tokenizer": {"type": "UnicodeScripts"},
        "decoder": {"type": "WordPiece"},
        "truncation": {"max_length": 5},
        "post_processor": {"type": "BertProcessing"},
    }
    with pytest.raises(ValueError) as error:
        loaded(content)
    for part in ("dropout", "end_of_word_suffix", "BertNormalizer", "UnicodeScripts", "WordPiece", "truncation"):
        assert part in str(error.value)
    assert "BertProcessing" in str(error.value)


def test_a_replacement_of_several_characters_before_a_metaspace_at_the_beginning_is_refused():
    for replace in (NORMALIZERS[-1], {"type": "Replace", "pattern": {"String": "ab"}, "content": "x"}):
        content = llama_like() | {"normalizer": replace, "pre_tokenizer": metaspace("first", True)}
        with pytest.raises(ValueError, match="prepend_scheme first"):
            loaded(content)


@pytest.mark.parametrize("kind", ["Unigram", "WordPiece", 7])
def test_another_algorithm_is_refused_by_its_name(kind):
    with pytest.raises(ValueError, match=f"model.type is {kind!r}; npllm can read BPE"):
        loaded(llama_like(type=kind, vocab=[["a", -1.0]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"]["merges"].append(["the", "q!"]), "which is missing from model.vocab"),
        (lambda c: c["model"]["merges"].append(["", "the"]), "'', which is missing"),
        (lambda c: c["model"]["merges"].append(["a"]), "each must be two tokens"),
        (lambda c: c["model"]["merges"].append(7), "each must be two tokens"),
        (lambda c: c["model"]["merges"].append(["a", 7]), "pairs of texts"),
        (lambda c: c["model"].update(merges={}), "model.merges is {}"),
        (lambda c: c["model"].update(vocab=[]), "model.vocab is"),
        (lambda c: c["model"]["vocab"].update(a=0), "one id to several tokens"),
        (lambda c: c["model"]["vocab"].update(a=-1), "an object from tokens to ids"),
        (lambda c: c["model"].update(unk_token="<none>", byte_fallback=False), "unk_token is '<none>'"),
        (lambda c: c["model"].update(byte_fallback=1.5), "model.byte_fallback is 1.5"),
        (lambda c: c.update(model=None), "model is None"),
        (lambda c: c["added_tokens"].append({"content": "<x>", "id": 7}), "has id 7; Hugging Face reads it as"),
        (lambda c: c["added_tokens"].append({"content": "", "id": 7}), "a unique content"),
        (lambda c: c["added_tokens"].append("x"), "a unique content"),
        (lambda c: c.update(decoder=None), "must replace ▁ by a space"),
        (lambda c: c.update(decoder=sequence(REPLACE_SYMBOLS, {**LLAMA_DECODER["decoders"][3]})), "Strip"),
        (lambda c: c["post_processor"]["single"].append({"Sequence": {"id": "B"}}), "a template with the text once"),
        (lambda c: c.update(pre_tokenizer=metaspace("sometimes", True)), "prepend_scheme of Metaspace"),
    ],
)
def test_an_invalid_file_is_refused(change, message):
    content = llama_like()
    change(content)
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        loaded(content)


def test_merged_byte_tokens_are_refused():
    content = llama_like()
    content["model"]["vocab"]["<0xE4><0xB8>"] = len(content["model"]["vocab"])
    content["model"]["merges"].append(["<0xE4>", "<0xB8>"])
    with pytest.raises(ValueError, match="does not merge byte tokens"):
        loaded(content)


def test_the_error_of_a_file_names_it(tmp_path):
    path = tmp_path / "tokenizer.json"
    for content in ("{", "[]", '{"model": {}}', '{"model": {"type": "Unigram"}}', "[" * 100_000):
        path.write_text(content)
        with pytest.raises(ValueError, match="tokenizer.json"):
            SentencePieceTokenizer.load(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        SentencePieceTokenizer.load(tmp_path / "other.json")


def fields(part, path=()):
    """The paths to the fields of parsed JSON; of long lists and objects, to the first ones."""
    entries = list(part.items())[:12] if isinstance(part, dict) else list(enumerate(part))[:3]
    for key, value in entries:
        yield *path, key
        if isinstance(value, (dict, list)):
            yield from fields(value, (*path, key))


WRONG = (None, 0, 1, -1, 2**70, 1.5, "x", "", "\ud800", [], [None], ["a"], {}, {"a": 1}, True, {"type": "Sequence"})


def test_any_field_with_any_value_is_read_or_refused_with_the_name_of_the_file():
    base = llama_like()
    add_token(base, "<mask>", lstrip=True)
    base["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [metaspace("first", True)]}
    paths, draw, num_refused = list(fields(base)), random.Random(0), 0
    for _ in range(400):
        content, path, value = json.loads(json.dumps(base)), draw.choice(paths), draw.choice(WRONG)
        part = content
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        try:
            tokenizer = SentencePieceTokenizer.from_tokenizer_json(content, "folder/tokenizer.json")
        except ValueError as error:
            num_refused += 1
            assert "folder/tokenizer.json" in str(error)
        else:
            ids = tokenizer.encode("the <mask> 日本 x<s>", allowed_special="all")
            assert isinstance(tokenizer.decode(ids), str)
    assert num_refused > 100

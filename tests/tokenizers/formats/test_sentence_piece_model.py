"""SentencePiece's *.model with BPE, opened by sentencepiece and by npllm."""

import random
from functools import cache

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import SentencePieceTokenizer
from npllm.tokenizers.formats.sentence_piece_model import read_fields, read_sentence_piece_model
from tests.tokenizers.character_vocabularies import TEXT, texts, trained_model

RULES = ("identity", "nmt_nfkc", "nfkc", "nmt_nfkc_cf")
MODELS = [  # options of the trainer
    {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False},  # as Llama 2's
    {},  # sentencepiece's defaults
    {
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
        "user_defined_symbols": ["▁▁", "\n\n", "<mask>"],
    },  # as Gemma's
    *(
        {
            "normalization_rule_name": RULES[seed % 4],
            "byte_fallback": seed % 3 == 0,
            "add_dummy_prefix": seed % 5 < 3,
            "remove_extra_whitespaces": seed % 2 == 0,
            "split_by_whitespace": seed % 7 > 2,
            "character_coverage": 0.995 if seed % 4 == 1 else 1.0,
            "user_defined_symbols": ["e", "\ufb01", "the", "▁▁"][seed % 4 :],
            "control_symbols": ["<sep>"],
            "unk_surface": "?" if seed == 5 else " \u2047 ",
            "bos_id": -1 if seed == 3 else 1,
        }
        for seed in range(8)
    ),
]


@cache
def libraries(index):
    """(ours, theirs) for one of MODELS."""
    data = trained_model(**MODELS[index])
    ours = SentencePieceTokenizer(read_sentence_piece_model(data, "test.model"))
    return ours, sentencepiece.SentencePieceProcessor(model_proto=data)


models = st.integers(0, len(MODELS) - 1)


@given(models, texts)
def test_ids_and_decoded_text_equal_those_of_sentencepiece(index, text):
    ours, theirs = libraries(index)
    ids = theirs.encode(text)
    assert ours.encode_ordinary(text) == ids
    assert ours.decode(ids) == theirs.decode(ids)


@given(models, texts)
def test_offsets_equal_those_of_sentencepiece(index, text):
    """But every byte token of a character has the character here, in sentencepiece the last one alone."""
    ours, theirs = libraries(index)
    expected = theirs.encode(text, return_type="offset_mapping")
    ids, offsets = ours.encode_with_offsets(text, disallowed_special=())
    assert ids.tolist() == expected["ids"]
    for token_id, own, (first, end) in zip(expected["ids"], offsets.tolist(), expected["offsets"]):
        assert own == [first, end] or (theirs.is_byte(token_id) and own[0] == first == end)


@given(models, st.data())
def test_any_ids_are_decoded_as_by_sentencepiece(index, data):
    ours, theirs = libraries(index)
    ids = data.draw(st.lists(st.integers(0, theirs.get_piece_size() - 1), max_size=15))
    assert ours.decode(ids) == theirs.decode(ids)


def test_a_long_text_has_the_same_ids():
    for index in range(len(MODELS)):
        ours, theirs = libraries(index)
        assert ours.encode_ordinary(TEXT) == theirs.encode(TEXT)


def test_control_symbols_are_special_tokens_and_the_first_one_is_the_prefix():
    ours, theirs = libraries(0)
    assert ours.special_tokens == {"<s>": theirs.bos_id(), "</s>": theirs.eos_id()}
    assert ours.prefix_ids == (theirs.bos_id(),)
    assert ours.encode("the", add_special_tokens=True) == theirs.encode("the", add_bos=True)
    without_bos, _ = libraries(6)
    assert "<s>" not in without_bos.special_tokens
    assert without_bos.prefix_ids == ()


def test_a_saved_tokenizer_json_gives_the_same_ids(tmp_path):
    ours, theirs = libraries(0)
    ours.save(tmp_path / "tokenizer.json")
    saved = SentencePieceTokenizer.load(tmp_path / "tokenizer.json")
    assert saved.encode(TEXT) == theirs.encode(TEXT)
    assert saved.decode(saved.encode(" two  spaces")) == " two  spaces"
    with_rules, _ = libraries(1)
    with pytest.raises(ValueError, match="no step for this SentencePiece normalizer"):
        with_rules.save(tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


def test_unused_tokens_that_no_merges_produce_are_read():
    data = token("u", 2) + token("a") + token("[PAD]", 5) + BPE
    tokenizer = SentencePieceTokenizer(read_sentence_piece_model(data, "test.model"))
    assert tokenizer.encode("a[PAD]a") == sentencepiece.SentencePieceProcessor(model_proto=data).encode("a[PAD]a")
    assert tokenizer.decode([2]) == "[PAD]"


def varint(value):
    data = b""
    while value > 0x7F:
        data, value = data + bytes([value & 0x7F | 0x80]), value >> 7
    return data + bytes([value])


def field(number, value):
    """A field of a message: an integer, or a length and bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def token(text, kind=1):
    return field(1, field(1, text.encode()) + b"\x15\x00\x00\x80\xbf" + field(3, kind))


BPE = field(2, field(3, 2))


@given(st.integers(1, 1000), st.integers(0, 2**64 - 1) | st.binary(max_size=300))
def test_fields_are_read_back(number, value):
    assert [*read_fields(field(number, value) * 2)] == [(number, value)] * 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has no tokens"),
        (BPE, "has no tokens"),
        (token("a"), "model_type is Unigram; npllm can read BPE"),
        (token("a") + field(2, field(3, 3)), "model_type is word"),
        (token("a") + field(2, field(3, 2) + field(24, 1)), "treat_whitespace_as_suffix"),
        (token("a") + token("<unk>", 2) + token("b") + token("ab", 5) + BPE, "'ab' is of type UNUSED"),
        (token("a") + BPE, "0 tokens of type UNKNOWN"),
        (token("a") + token("u", 2) + token("v", 2) + BPE, "2 tokens of type UNKNOWN"),
        (token("a") + token("a", 2) + BPE, "'a' occurs more than once"),
        (token("") + BPE, "token 0 is the empty text"),
        (token("a", 9) + BPE, "a token has type 9"),
        (token("u", 2) + token("<0x0A>", 6) + BPE, "it has 1 byte tokens; it must have none"),
        (token("u", 2) + token("<0x0A>", 6) + field(2, field(3, 2) + field(35, 1)), "it must have 256"),
        (token("u", 2) + token("nl", 6) + BPE, "'nl' must have the form"),
        (field(1, field(1, b"\xff")) + BPE, "utf-8"),
        (field(1, 7), "a message is 7"),
        (field(1, field(1, b"a") + b"\x15\x00\x00\xc0\x7f") + BPE, "score of a token is nan"),
        (token("u", 2) + BPE + field(3, field(2, b"\x05\x00\x00\x00ab")), "precompiled_charsmap"),
        (token("u", 2) + BPE + field(3, field(2, b"\x04\x00\x00\x00" + bytes(4) + b"a\x00")), None),
        (b"\x0b", "type 3 and number 1"),
        (b"\x80" * 11, "more than ten bytes"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "a field needs"),
        (b"not a model at all", "test.model"),
    ],
)
def test_an_invalid_model_is_refused_and_named(data, message):
    if message is None:
        read_sentence_piece_model(data, "test.model")
        return
    with pytest.raises(ValueError, match=message) as error:
        read_sentence_piece_model(data, "test.model")
    assert "test.model" in str(error.value)


def test_a_truncated_or_damaged_model_raises_valueerror_or_is_read():
    data = trained_model(vocab_size=200, normalization_rule_name="identity")
    draw = random.Random(0)
    damaged = [data[:end] for end in range(0, len(data), 7)]
    for _ in range(300):
        position = draw.randrange(len(data))
        damaged.append(data[:position] + bytes([draw.randrange(256)]) + data[position + 1 :])
    num_refused = 0
    for content in damaged:
        try:
            SentencePieceTokenizer(read_sentence_piece_model(content, "test.model")).encode(TEXT[:50])
        except ValueError as error:
            num_refused += 1
            assert "test.model" in str(error)
    assert num_refused > len(damaged) / 3

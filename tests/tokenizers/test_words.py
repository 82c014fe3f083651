import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import SimpleTokenizerV1, SimpleTokenizerV2, build_vocab, join_texts, split_words
from npllm.tokenizers.words import V1_PATTERN, drop_whitespace, split_on_commas_and_periods, split_on_whitespace
from tests.strategies import texts

SAMPLE = "Hello, world. Is this-- a test?"


def test_splitting_step_by_step():
    text = "Hello, world. This, is a test."
    assert split_on_whitespace(text) == ["Hello,", " ", "world.", " ", "This,", " ", "is", " ", "a", " ", "test."]
    with_punctuation = split_on_commas_and_periods(text)
    assert with_punctuation[:6] == ["Hello", ",", "", " ", "world", "."]
    assert drop_whitespace(with_punctuation) == ["Hello", ",", "world", ".", "This", ",", "is", "a", "test", "."]
    assert split_words(SAMPLE) == ["Hello", ",", "world", ".", "Is", "this", "--", "a", "test", "?"]


def test_the_first_pattern_leaves_colon_and_semicolon_on_the_word():
    assert split_words("one: two; three", V1_PATTERN) == ["one:", "two;", "three"]
    assert split_words("one: two; three") == ["one", ":", "two", ";", "three"]


@given(texts)
def test_splitting_loses_only_whitespace(text):
    assert "".join("".join(split_words(text)).split()) == "".join(text.split())


@given(texts)
def test_build_vocab_numbers_the_distinct_words_in_order(text):
    vocab = build_vocab(text, ["<|a special|>", "<|another|>"])
    *words, first, second = vocab
    assert words == sorted(set(split_words(text)))
    assert (first, second) == ("<|a special|>", "<|another|>")
    assert list(vocab.values()) == list(range(len(vocab)))


@given(texts)
def test_words_survive_a_round_trip(text):
    tokenizer = SimpleTokenizerV2(build_vocab(text, ["<|unk|>"]))
    ids = tokenizer.encode(text)
    assert [tokenizer.id_to_token[index] for index in ids] == split_words(text)
    assert tokenizer.encode(" ".join(split_words(text))) == ids


def test_decode_puts_no_space_before_punctuation():
    text = "It's the last he painted, you know, \" Mrs. Gisburn said with pride; (really): yes! No?"
    tokenizer = SimpleTokenizerV2(build_vocab(text, ["<|unk|>"]))
    decoded = tokenizer.decode(tokenizer.encode(text))
    assert decoded == "It' s the last he painted, you know,\" Mrs. Gisburn said with pride;( really): yes! No?"
    assert split_words(decoded) == split_words(text)


def test_v1_names_the_unknown_word_and_mentions_v2():
    tokenizer = SimpleTokenizerV1(build_vocab("the cat sat", pattern=V1_PATTERN))
    with pytest.raises(KeyError, match=r"'dog' is not among the 3 tokens of the vocabulary; SimpleTokenizerV2 would"):
        tokenizer.encode("the dog sat")


def test_v2_encodes_unknown_words_as_unk():
    tokenizer = SimpleTokenizerV2(build_vocab("the cat sat", ["<|endoftext|>", "<|unk|>"]))
    assert tokenizer.decode(tokenizer.encode("the dog sat")) == "the <|unk|> sat"


def test_decoding_removes_no_characters_of_special_tokens():
    text = "unkind knights of the junk"
    tokenizer = SimpleTokenizerV2(build_vocab(text, ["<|unk|>"]))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("person unkind person")) == "<|unk|> unkind <|unk|>"


@pytest.mark.parametrize("tokenizer_class", [SimpleTokenizerV1, SimpleTokenizerV2])
def test_joined_texts_are_separated_by_one_token(tokenizer_class):
    one, two = "the cat sat", "the mat."
    tokenizer = tokenizer_class(build_vocab(one + " " + two, ["<|endoftext|>", "<|unk|>"]))
    joined = join_texts(one, two)
    assert joined == "the cat sat <|endoftext|> the mat."
    ids = tokenizer.encode(joined)
    border = ids.index(tokenizer.token_to_id["<|endoftext|>"])
    assert (ids[:border], ids[border + 1 :]) == (tokenizer.encode(one), tokenizer.encode(two))
    assert tokenizer.decode(ids) == joined


def test_a_special_token_in_the_text_does_not_count_as_a_word():
    joined = join_texts("the cat", "the mat")
    assert build_vocab(joined, ["<|endoftext|>"]) == {"cat": 0, "mat": 1, "the": 2, "<|endoftext|>": 3}


@given(st.lists(st.sampled_from(["cat", "dog", "sat", ","]), max_size=9))
def test_v1_and_v2_agree_on_known_words(words):
    vocab = build_vocab("cat dog sat,", ["<|unk|>"])
    text = " ".join(words)
    assert SimpleTokenizerV1(vocab).encode(text) == SimpleTokenizerV2(vocab).encode(text)


def test_invalid_arguments():
    with pytest.raises(ValueError, match="each must be given once"):
        build_vocab("the cat", ["<|a|>", "<|a|>"])
    with pytest.raises(ValueError, match=r"vocab has no <\|unk\|>; add it with build_vocab"):
        SimpleTokenizerV2({"a": 0})
    with pytest.raises(ValueError, match="assigns one id to several tokens"):
        SimpleTokenizerV1({"a": 0, "b": 0})
    with pytest.raises(KeyError, match="id 7 is not in the vocabulary, which has 1 tokens"):
        SimpleTokenizerV1({"a": 0}).decode([0, 7])


def test_wrong_types_are_refused():
    for function in (split_words, build_vocab, SimpleTokenizerV1({"a": 0}).encode):
        with pytest.raises(TypeError, match="text is NoneType; it must be a str"):
            function(None)
    with pytest.raises(TypeError, match="special_tokens is the text '<x>'; it must be a list of texts"):
        build_vocab("a b", "<x>")
    with pytest.raises(TypeError, match="a special token is int; it must be a str"):
        build_vocab("a b", [3])

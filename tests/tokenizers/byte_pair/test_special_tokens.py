"""Special tokens: allowed, disallowed, or ordinary text, compared with tiktoken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer
from npllm.tokenizers.byte_pair.special_tokens import check_no_special, find_special, resolve_special, split_on_special
from tests.strategies import texts
from tests.tokenizers.peers import gpt2, gpt2_tiktoken, tiktoken_encoding

BYTES = [bytes([byte]) for byte in range(256)]


def small():
    ranks = {token: rank for rank, token in enumerate(BYTES)}
    return BPETokenizer(ranks, special_tokens={"<|a|>": 300, "<|a|>b": 301, "<|c|>": 302})


def test_the_default_refuses_and_names_the_remedies():
    with pytest.raises(ValueError, match="the text contains the special token") as caught:
        gpt2().encode("one<|endoftext|>two")
    for advice in (
        "allowed_special={'<|endoftext|>'}",
        "special_tokens.keys() - {'<|endoftext|>'}",
        "disallowed_special=()",
    ):
        assert advice in str(caught.value)


def test_surrogates_are_replaced_before_the_search():
    ranks = {token: rank for rank, token in enumerate(BYTES)}
    tokenizer = BPETokenizer(ranks, special_tokens={"<\U0001f600>": 300})
    text = "a<\ud83d\ude00>b"
    assert tokenizer.encode(text, allowed_special="all") == [97, 300, 98]
    assert tokenizer.encode_batch([text], allowed_special="all") == [[97, 300, 98]]
    assert tiktoken_encoding(tokenizer).encode(text, allowed_special="all") == [97, 300, 98]


def test_a_str_is_not_a_set_of_special_tokens():
    for option in ("allowed_special", "disallowed_special"):
        with pytest.raises(TypeError, match=f"{option} is the text '<.x.>'; it must be 'all' or a set"):
            gpt2().encode("a", **{option: "<|x|>"})


def test_the_longest_special_token_at_a_position_is_taken():
    assert small().encode("<|a|>b<|a|>", allowed_special="all") == [301, 300]


def test_special_tokens_that_are_neither_allowed_nor_disallowed_are_ordinary_text():
    tokenizer = small()
    ids = tokenizer.encode("<|c|><|a|>", allowed_special={"<|c|>"}, disallowed_special=())
    assert ids == [302, *b"<|a|>"]
    with pytest.raises(ValueError, match=r"<\|a\|>"):
        tokenizer.encode("<|c|><|a|>", allowed_special={"<|c|>"})


def test_a_token_that_is_allowed_and_disallowed_is_disallowed():
    with pytest.raises(ValueError, match="the text contains the special token"):
        gpt2().encode("<|endoftext|>", allowed_special="all", disallowed_special={"<|endoftext|>"})


def test_a_special_token_ends_the_text_before_it():
    ids = gpt2().encode("a  <|endoftext|>  b", allowed_special="all")
    assert ids == gpt2_tiktoken().encode("a  <|endoftext|>  b", allowed_special="all")
    assert gpt2().encode("  ")[0] in ids


@given(texts, st.sampled_from([set(), {"<|endoftext|>"}, "all"]), st.sampled_from([(), {"<|endoftext|>"}, "all"]))
def test_the_options_mean_what_they_mean_in_tiktoken(text, allowed, disallowed):
    options = {"allowed_special": allowed, "disallowed_special": disallowed}
    try:
        expected = gpt2_tiktoken().encode(text, **options)
    except ValueError:
        with pytest.raises(ValueError, match="the text contains the special token"):
            gpt2().encode(text, **options)
    else:
        assert gpt2().encode(text, **options) == expected


def test_resolve():
    every = frozenset({"<|a|>", "<|b|>"})
    assert resolve_special(every, (), "all") == (frozenset(), every)
    assert resolve_special(every, {"<|a|>"}, "all") == ({"<|a|>"}, {"<|b|>"})
    assert resolve_special(every, "all", "all") == (every, frozenset())
    assert resolve_special(every, ["<|a|>", "unknown"], ()) == ({"<|a|>"}, frozenset())
    assert resolve_special(every, (), ["any text"]) == (frozenset(), {"any text"})


def test_split_and_find():
    special = frozenset({"<|a|>", "<|b|>"})
    assert split_on_special(special, "x<|b|><|a|>y") == (["x", "", "y"], ["<|b|>", "<|a|>"])
    assert split_on_special(special, "xy") == (["xy"], [])
    assert split_on_special(frozenset(), "x<|a|>") == (["x<|a|>"], [])
    assert find_special(special, ["x", "y<|b|><|a|>"]).group() == "<|b|>"
    assert find_special(special, ["x"]) is None
    assert find_special(frozenset(), ["x<|a|>"]) is None


def test_the_text_of_a_special_token_is_not_a_regular_expression():
    assert split_on_special(frozenset({"a.c", "(x"}), "abc a.c (x") == (["abc ", " ", ""], ["a.c", "(x"])


def test_check():
    check_no_special(frozenset({"<|a|>"}), ["x", "<|a|"])
    with pytest.raises(ValueError, match=r"the text contains the special token '<\|a\|>'"):
        check_no_special(frozenset({"<|a|>"}), ["x", "y<|a|>"])
    with pytest.raises(TypeError, match="a special token is int; it must be a str"):
        gpt2().encode("a", disallowed_special=[3])


@pytest.mark.parametrize("method", ["encode", "encode_to_numpy", "encode_with_offsets", "count"])
def test_no_method_allows_special_tokens_by_default(method):
    with pytest.raises(ValueError, match="the text contains the special token"):
        getattr(gpt2(), method)("x<|endoftext|>")
    with pytest.raises(ValueError, match="the text contains the special token"):
        gpt2().encode_batch(["x", "x<|endoftext|>"])
    with pytest.raises(ValueError, match="the text contains the special token"):
        gpt2().truncate("x<|endoftext|>", 3)
    with pytest.raises(ValueError, match="the text contains the special token"):
        list(gpt2().encode_blocks("x<|endoftext|>"))

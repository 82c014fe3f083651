"""Added tokens in two passes; test_hugging_face_pipelines compares them with Hugging Face's tokenizers."""

from npllm.tokenizers.byte_pair.added_tokens import AddedToken, AddedTokens, as_written_in_bytes
from npllm.tokenizers.byte_pair.normalizers import UnicodeForm

NFC = (UnicodeForm("NFC"),)


def split(tokens, text, normalizers=NFC):
    added = AddedTokens(tokens, normalizers)
    return added.split(text, frozenset(added.tokens))


def test_the_text_between_the_tokens_is_normalized_by_itself():
    assert split([AddedToken("<|x|>", 9)], "e\u0301<|x|>\u0338e\u0301") == (["é", "\u0338é"], [9])


def test_a_normalized_token_is_found_in_the_normalized_text():
    token = AddedToken("e\u0301", 9, normalized=True)
    assert split([token], "aé e\u0301") == (["a", " ", ""], [9, 9])
    assert split([AddedToken(">", 9, normalized=True)], "a>\u0338") == (["a\u226f"], [])
    assert split([AddedToken(">", 9)], "a>\u0338") == (["a", "\u0338"], [9])


def test_tokens_that_are_not_normalized_are_found_first():
    tokens = [AddedToken("x|><|", 8, normalized=True), AddedToken("<|x|>", 9)]
    assert split(tokens, "<|x|><|x|>") == (["", "", ""], [9, 9])
    assert split(tokens, "|x|><|") == (["|", ""], [8])


def test_whitespace_beside_a_token():
    tokens = [AddedToken("<l>", 7, lstrip=True), AddedToken("<r>", 8, rstrip=True)]
    assert split(tokens, "a \n<l> b<r>\u3000\n <l>") == (["a", " b", "", ""], [7, 8, 7])
    parts = list(AddedTokens(tokens).split_aligned("a  <r> \n b", frozenset(["<r>"])))
    assert parts == [("a  ", range(3)), (8, 3, 9), ("b", range(9, 10))]


def test_single_words():
    token = AddedToken("low", 9, single_word=True)
    for text, found in (("low", True), ("low!", True), ("_low", False), ("lower", False), ("low\u0338", False)):
        assert bool(split([token], text)[1]) == found


def test_a_token_that_is_not_allowed_is_ordinary_text():
    added = AddedTokens([AddedToken("<a>", 1), AddedToken("<b>", 2, special=False)])
    assert added.always == {"<b>"}
    assert added.split("<a><b>", added.always) == (["<a>", ""], [2])
    assert added.split("<a><b>", frozenset()) == (["<a><b>"], [])


def test_texts_in_the_alphabet_of_bytes_stand_for_bytes():
    assert as_written_in_bytes(AddedToken("ø", 1)).to_bytes() == b"\xf8"
    assert as_written_in_bytes(AddedToken("Ġx", 1)).to_bytes() == b" x"
    for text in ("<|x|>", "a b", "é ", "中"):
        assert as_written_in_bytes(AddedToken(text, 1)).to_bytes() == text.encode()


def test_which_tokens_need_context():
    assert not AddedTokens([AddedToken("a", 1)], NFC).need_context
    assert not AddedTokens([AddedToken("a", 1, normalized=True)]).need_context
    assert AddedTokens([AddedToken("a", 1, normalized=True)], NFC).need_context
    assert AddedTokens([AddedToken("a", 1, lstrip=True)]).need_context

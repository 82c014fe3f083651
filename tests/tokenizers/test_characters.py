import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npllm.tokenizers import CharacterTokenizer
from tests.strategies import texts


@given(texts)
@example("\ud83d\ude00")
def test_round_trip_of_any_text(tmp_path_factory, text):
    tokenizer = CharacterTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.vocab_size == len(set(text))
    assert [tokenizer.characters[i] for i in ids] == list(text)
    path = tmp_path_factory.mktemp("vocabulary") / "v.json"
    tokenizer.save(path)
    assert CharacterTokenizer.load(path).encode(text) == ids


@given(st.text(min_size=1))
def test_ids_are_in_the_order_of_the_code_points(text):
    assert list(CharacterTokenizer.from_text(text).characters) == sorted(set(text))


def test_errors(tmp_path):
    tokenizer = CharacterTokenizer("ab")
    with pytest.raises(KeyError, match="'c' is not among the 2 characters"):
        tokenizer.encode("abc")
    for wrong in (2, -1):
        with pytest.raises(KeyError, match=f"id {wrong} is not in the vocabulary; ids are below 2"):
            tokenizer.decode([0, wrong])
    with pytest.raises(TypeError, match="text is bytes"):
        tokenizer.encode(b"ab")
    with pytest.raises(ValueError, match="characters has 'a' more than once"):
        CharacterTokenizer("aa")
    for content in ("", "[]", '{"format": "other"}', '{"format": "npllm characters", "version": 1}'):
        (tmp_path / "v.json").write_text(content)
        with pytest.raises(ValueError, match=r"v.json"):
            CharacterTokenizer.load(tmp_path / "v.json")

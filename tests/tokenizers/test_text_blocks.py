"""Blocks of a file: joined they are the text, and their pre-tokens and ids, one block after another, are the text's."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, pretokenize, text_blocks, train_bpe
from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.byte_pair.normalizers import FORMS, Replace, as_normalizers
from npllm.tokenizers.byte_pair.pre_tokenizers import PrefixSpace, Split
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.text_blocks import is_split_point, last_split_point, read_text_blocks
from tests.strategies import texts
from tests.tokenizers.mixed_texts import mixed_texts
from tests.tokenizers.peers import TIKTOKEN_PATTERNS, tiktoken_encoding, trained

SPECIAL = ["<|endoftext|>", "<|end", "a1 b", "1 b2", "'s", " ", "xx"]  # some overlap others
OTHER_PATTERN = r"\S+|\s+"
awkward = st.lists(
    st.sampled_from(
        ["a1 b2", "<|endoftext|>", "<|end", "xx", "x", "1", "don't", "'s", " ", "\r\n", "é", "日本。", "😀"]
    ),
    max_size=30,
).map("".join)
some_texts = (
    (texts | awkward).map(replace_surrogates).filter(lambda text: text and "\0" not in text and text[0] != "\ufeff")
)
some_special = st.lists(st.sampled_from(SPECIAL), unique=True, max_size=3)


def read(content, block, *arguments, **options):
    """The blocks of a file with this content, if `block` bytes are read at once."""
    before, text_blocks.BLOCK = text_blocks.BLOCK, block
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_bytes(content)
            return list(read_text_blocks(path, *arguments, **options))
    finally:
        text_blocks.BLOCK = before


@given(
    some_texts, st.integers(1, 60), st.sampled_from([*PATTERNS.values(), OTHER_PATTERN]), some_special, st.booleans()
)
def test_the_blocks_make_up_the_text(text, block, pattern, special, with_mark):
    content = text.encode("utf-8-sig" if with_mark else "utf-8")
    blocks = read(content, block, pattern, special)
    assert "".join(one.text for one in blocks) == text, "with its line breaks, without the byte order mark"
    assert b"".join(one.data for one in blocks) == content
    assert all(one.data.decode("utf-8-sig") == one.text for one in blocks[:1])
    assert all(one.data.decode() == one.text for one in blocks[1:])
    if pattern != OTHER_PATTERN:
        positions = [sum(len(one.text) for one in blocks[:number]) for number in range(1, len(blocks))]
        assert all(is_split_point(text[:i], text[i:], special) for i in positions)
    assert pattern != OTHER_PATTERN or len(blocks) == 1, "its pre-tokens are unknown"


@given(some_texts, st.integers(1, 60), st.sampled_from(list(PATTERNS)), some_special)
def test_the_ids_of_the_blocks_are_those_of_the_text(text, block, name, special):
    tokenizer = trained(name)
    tokenizer = BPETokenizer(tokenizer.ranks, PATTERNS[name], {token: 90_000 + i for i, token in enumerate(special)})
    blocks = read(text.encode(), block, PATTERNS[name], special)
    for allowed, disallowed in (("all", ()), ((), ())):
        options = {"allowed_special": allowed, "disallowed_special": disallowed}
        ids = [token_id for one in blocks for token_id in tokenizer.encode(one.text, **options)]
        assert ids == tokenizer.encode(text, **options)
    refused = [token for token in special if token in text]
    assert refused == [token for token in special if any(token in one.text for one in blocks)]


@given(
    st.lists(st.sampled_from(["a1 b2", "a1 b", "1 b2", "x", "!", "!!!!"]), min_size=1, max_size=20), st.integers(1, 30)
)
def test_no_block_ends_inside_a_special_token(parts, block):
    text, special = "".join(parts), ["a1 b2", "b2x"]
    tokenizer = BPETokenizer(trained("gpt2").ranks, special_tokens={"a1 b2": 90_000, "b2x": 90_001})
    blocks = read(text.encode(), block, special_tokens=special)
    ids = [token_id for one in blocks for token_id in tokenizer.encode(one.text, allowed_special="all")]
    assert ids == tokenizer.encode(text, allowed_special="all")


@given(some_texts, st.integers(1, 60), st.sampled_from(list(PATTERNS)))
def test_the_ids_of_the_blocks_equal_those_of_tiktoken(text, block, name):
    tokenizer = trained(name)
    blocks = read(text.encode(), block, PATTERNS[name], tokenizer.special_tokens)
    ids = [token_id for one in blocks for token_id in tokenizer.encode(one.text, allowed_special="all")]
    assert ids == tiktoken_encoding(tokenizer, TIKTOKEN_PATTERNS[name]).encode(text, allowed_special="all")


@given(some_texts, st.integers(1, 60), st.sampled_from([*PATTERNS.values(), OTHER_PATTERN]), some_special)
def test_the_pretokens_of_the_blocks_are_those_of_the_text(text, block, pattern, special):
    blocks = [one.text for one in read(text.encode(), block, pattern, special)]
    if not special:
        pretokens = [pretoken for one in blocks for pretoken in pretokenize(one, pattern)]
        assert list(Counter(pretokens).items()) == list(Counter(pretokenize(text, pattern)).items())
    options = {"pattern": pattern, "special_tokens": special}
    assert train_bpe(iter(blocks), 280, **options).ranks == train_bpe(text, 280, **options).ranks


@given(some_texts, st.integers(1, 60), some_special, st.data())
def test_reading_can_start_at_the_end_of_any_block(text, block, special, data):
    blocks = read(text.encode(), block, special_tokens=special)
    number = data.draw(st.integers(0, len(blocks)))
    done = sum(len(one.data) for one in blocks[:number])
    rest = read(text.encode(), block, special_tokens=special, start=done)
    assert b"".join(one.data for one in rest) == text.encode()[done:]
    tokenizer = BPETokenizer(
        trained("gpt2").ranks, special_tokens={token: 90_000 + i for i, token in enumerate(special)}
    )
    ids = [i for one in blocks[:number] + rest for i in tokenizer.encode(one.text, allowed_special="all")]
    assert ids == tokenizer.encode(text, allowed_special="all")


def test_a_long_text_has_many_blocks(story):
    blocks = read(story.encode(), 500)
    assert len(blocks) > len(story) / 1000
    assert max(len(one.data) for one in blocks) <= 1000


def test_a_single_word_is_one_block():
    word = "abc" * 10_000
    assert [one.text for one in read(f"{word} {word}".encode(), 100)] == [word, f" {word}"]


def test_last_split_point():
    assert last_split_point("aa bb a1 b2 c", ["a1 b2"]) == len("aa bb")
    assert last_split_point("aa bb a1 b2 cccc d", ["a1 b2"]) == len("aa bb a1 b2")
    assert last_split_point("aa bb a1 b2 ccc", ["a1 b3"]) == len("aa bb a1 b")
    assert last_split_point("a1 b2", ["a1 b2", "x"]) == last_split_point("a1", ["a1 b2"]) == last_split_point("") == 0


def test_is_split_point():
    assert is_split_point("one", " two")
    assert not is_split_point("on", "e two")
    assert not is_split_point("one ", "two")
    assert not is_split_point("don", "'t")
    assert not is_split_point("a1", " b2", ["a1 b2"])
    assert is_split_point("a1", " b3", ["a1 b2"])


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize(
    ("content", "position", "byte"),
    [(b"one two \xff three", 8, "ff"), (b"\xef\xbb\xbfone two \xff", 11, "ff"), (b"a b c d \xc3", 8, "c3")],
)
def test_the_first_byte_that_is_not_utf8_is_named(block, content, position, byte):
    with pytest.raises(ValueError, match=rf"text.txt is .*\(byte {position} is 0x{byte}\); it must be text in UTF-8"):
        read(content, block)


def test_other_files_are_refused(tmp_path):
    for content, message in ((b"", "is empty"), (b"\xef\xbb\xbf", "is empty"), (b"a\0b\0", "UTF-16")):
        with pytest.raises(ValueError, match=message):
            read(content, 100)
    with pytest.raises(FileNotFoundError, match="nothing.txt does not exist; it must be a text file"):
        next(read_text_blocks(tmp_path / "nothing.txt"))
    with pytest.raises(IsADirectoryError, match="is a folder"):
        next(read_text_blocks(tmp_path))


def test_defaults(tmp_path, story):
    (tmp_path / "text.txt").write_text(story, encoding="utf-8")
    first = list(read_text_blocks(tmp_path / "text.txt"))
    assert first == list(read_text_blocks(tmp_path / "text.txt", PATTERNS["gpt2"], (), 0))
    assert last_split_point("one <|endoftext|> two") == last_split_point("one <|endoftext|> two", ())
    assert is_split_point("one", " two") == is_split_point("one", " two", ())


@pytest.mark.parametrize("form", FORMS)
@given(mixed_texts.filter(lambda text: text and "\0" not in text and text[0] != "\ufeff"), st.integers(1, 40))
def test_blocks_of_a_text_that_is_normalized(form, text, block):
    tokenizer = BPETokenizer(trained("gpt2").ranks, normalizer=form)
    blocks = read(text.encode(), block, normalizers=tokenizer.normalizers)
    assert "".join(one.text for one in blocks) == text
    ids = [token_id for one in blocks for token_id in tokenizer.encode(one.text)]
    assert ids == tokenizer.encode(text)
    positions = [sum(len(one.text) for one in blocks[:number]) for number in range(1, len(blocks))]
    assert all(is_split_point(text[:i], text[i:], (), tokenizer.normalizers) for i in positions)


def test_no_block_ends_inside_a_normalization():
    nfc = as_normalizers("NFC")
    assert last_split_point("a \u0301") == 1
    assert last_split_point("a b\u1100\u1161 c", (), nfc) == len("a b\u1100\u1161")
    assert last_split_point("ab™x", (), as_normalizers("NFKC")) == 0, "™ becomes two letters"
    assert last_split_point("1⑴!x", (), as_normalizers("NFKC")) == 0, "⑴ becomes (1)"
    assert last_split_point("ab™x") == len("ab")
    assert not is_split_point("ab", "™ x", (), as_normalizers("NFKC"))
    assert last_split_point("a b", (), [Replace("b", "c")]) == 0


def test_a_file_as_one_block():
    assert len(read(b"one two three", 4)) > 1
    assert len(read(b"one two three", 4, as_one_block=True)) == 1


def test_tokenizers_that_need_the_whole_text():
    ranks = trained("gpt2").ranks
    assert not BPETokenizer(ranks, normalizer="NFC", special_tokens={"<|x|>": 99_000}).needs_whole_text
    assert BPETokenizer(ranks, (PrefixSpace(), Split(PATTERNS["gpt2"]))).needs_whole_text
    assert BPETokenizer(ranks, added_tokens=[AddedToken("<|x|>", 99_000, rstrip=True)]).needs_whole_text

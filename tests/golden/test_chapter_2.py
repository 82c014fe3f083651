"""What the book and the notes print in chapter 2, from the-verdict.txt."""

import math

import numpy as np
import pytest

from npllm.batching import GPTDatasetV1, create_dataloader_v1, epoch_stats, sliding_windows
from npllm.tokenizers import SimpleTokenizerV1, SimpleTokenizerV2, build_vocab, join_texts, split_words
from npllm.tokenizers.words import V1_PATTERN
from tests.golden.corpora import text_of
from tests.tokenizers.peers import gpt2


@pytest.fixture(scope="module")
def verdict():
    return text_of("the-verdict")


def test_characters_and_tokens(verdict):
    assert len(verdict) == 20479
    tokens = split_words(verdict)
    assert len(tokens) == 4690
    assert tokens[:12] == [
        "I",
        "HAD",
        "always",
        "thought",
        "Jack",
        "Gisburn",
        "rather",
        "a",
        "cheap",
        "genius",
        "--",
        "though",
    ]


def test_vocabulary(verdict):
    vocab = build_vocab(verdict)
    assert len(vocab) == 1130
    assert list(vocab.items())[:5] == [("!", 0), ('"', 1), ("'", 2), ("(", 3), (")", 4)]
    special = build_vocab(verdict, ["<|endoftext|>", "<|unk|>"])
    assert len(special) == 1132
    assert (special["<|endoftext|>"], special["<|unk|>"]) == (1130, 1131)


def test_the_notes_first_pattern(verdict):
    assert len(split_words(verdict, V1_PATTERN)) == 4649
    assert len(build_vocab(verdict, pattern=V1_PATTERN)) == 1159
    assert len(build_vocab(verdict, ["<|endoftext|>", "<|unk|>"], pattern=V1_PATTERN)) == 1161


def test_simple_tokenizers(verdict):
    text = '"It\'s the last he painted, you know," Mrs. Gisburn said with pardonable pride.'
    ids = [1, 56, 2, 850, 988, 602, 533, 746, 5, 1126, 596, 5, 1, 67, 7, 38, 851, 1108, 754, 793, 7]
    tokenizer = SimpleTokenizerV1(build_vocab(verdict))
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == '" It\' s the last he painted, you know," Mrs. Gisburn said with pardonable pride.'
    with pytest.raises(KeyError, match="'Hello'"):
        tokenizer.encode("Hello, do you like tea?")
    joined = join_texts("Hello, do you like tea?", "In the sunlit terraces of the palace.")
    tokenizer = SimpleTokenizerV2(build_vocab(verdict, ["<|endoftext|>", "<|unk|>"]))
    ids = [1131, 5, 355, 1126, 628, 975, 10, 1130, 55, 988, 956, 984, 722, 988, 1131, 7]
    assert tokenizer.encode(joined) == ids
    assert tokenizer.decode(ids) == "<|unk|>, do you like tea? <|endoftext|> In the sunlit terraces of the <|unk|>."


def test_gpt2_ids(verdict):
    ids = gpt2().encode(verdict)
    assert (len(ids), len(set(ids))) == (5145, 1416)
    assert ids[:10] == [40, 367, 2885, 1464, 1807, 3619, 402, 271, 10899, 2138]
    text = "Hello, do you like tea? <|endoftext|> In the sunlit terracesof someunknownPlace."
    start, end = (
        [15496, 11, 466, 345, 588, 8887, 30, 220],
        [554, 262, 4252, 18250, 8812, 2114, 1659, 617, 34680, 27271, 13],
    )
    expected = [*start, 50256, *end]
    assert gpt2().encode(text, allowed_special={"<|endoftext|>"}) == expected


@pytest.mark.parametrize(
    ("batch_size", "max_length", "stride", "samples"),
    [(1, 4, 1, 5141), (8, 4, 4, 1286), (4, 2, 2, 2572), (4, 8, 2, 2569), (4, 256, 128, 39)],
)
def test_windows(verdict, batch_size, max_length, stride, samples):
    dataset = GPTDatasetV1(verdict, gpt2(), max_length, stride)
    assert len(dataset) == samples == math.ceil((5145 - max_length) / stride)
    assert epoch_stats(5145, max_length, stride, batch_size).windows == samples


def test_batches(verdict):
    loader = create_dataloader_v1(verdict, batch_size=1, max_length=4, stride=1, shuffle=False)
    batches = iter(loader)
    first = [array.tolist() for array in next(batches)]
    assert first == [[[40, 367, 2885, 1464]], [[367, 2885, 1464, 1807]]]
    assert next(batches)[0].tolist() == [[367, 2885, 1464, 1807]]
    loader = create_dataloader_v1(verdict, batch_size=8, max_length=4, stride=4, shuffle=False)
    inputs, targets = next(iter(loader))
    assert inputs.tolist() == [
        [40, 367, 2885, 1464], [1807, 3619, 402, 271], [10899, 2138, 257, 7026], [15632, 438, 2016, 257],
        [922, 5891, 1576, 438], [568, 340, 373, 645], [1049, 5975, 284, 502], [284, 3285, 326, 11],
    ]  # fmt: skip
    assert targets[-1].tolist() == [3285, 326, 11, 287]


def test_windows_do_not_repeat_the_slip_of_the_notes():
    # the notes have token_ids[i:1 + max_length], which is correct only for the first window
    inputs, _ = sliding_windows(np.arange(10), 4, 2)
    assert [len(window) for window in inputs] == [4, 4, 4]
    assert inputs[1].tolist() == [2, 3, 4, 5]

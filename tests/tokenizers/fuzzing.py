"""Rounds of random texts, each held against tiktoken; `python -m tests.fuzz` goes on with them for hours.

Each function takes a numpy Generator, and how much to do; it raises AssertionError at the first difference and returns
how many texts, pieces, or characters of long pieces were compared.
"""

import random
import sys

import numpy as np

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.vectorized.merge_tree import find_merges
from npllm.tokenizers.vectorized.parallel_merge import Merger
from tests.tokenizers.peers import TIKTOKEN_PATTERNS, gpt2, gpt2_twin, tiktoken_twin, trained

CONTEXTS = ("{}", "a{}", "{}a", " {} ", "1{}1", "'{}s", "!{}!", "\n{}\n", "A{}b", "a{}'s", "  {}", "{0}{0}")
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ",
    " \n\t\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000a!",
    "'sdmtlvreSDMTLVRE\u017f\u212a ",
    "aAbB\u01c5\u02b0\u4e2d\u0301\u093e'sLl!/\r\n ",
    "0123456789\u0663\u00b2\u2167 .,-+",
    "\u2764\ufe0f\U0001f600\u200d\U0001f3fd ",
    "<|endoftext|> ",
    "\ud83d\ude00\ud800\udc00ab ",
    "\u0915\u094d\u0937\u093f\u0e01\u0e34\uac00\u304b\u3099\u05d0\u05b0 ",
)


def tokenizers():
    """(name, npllm's, tiktoken's) for GPT-2's vocabulary and, with the other patterns, for trained ones."""
    for name, ours in [("GPT-2", gpt2()), *((name, trained(name)) for name in PATTERNS)]:
        assert ours._encoder.vectorized is not None  # built now: short rounds would never come to it
        yield name, ours, gpt2_twin() if name == "GPT-2" else tiktoken_twin(ours, TIKTOKEN_PATTERNS[name])


def every_code_point(rng, every=1):
    """Each code point (or each `every`-th, from a random one on), in every context, all as one text a context."""
    first = int(rng.integers(every))
    points = [chr(point) for point in range(first, sys.maxunicode + 1, every) if not 0xD800 <= point <= 0xDFFF]
    for name, ours, theirs in tokenizers():
        for context in CONTEXTS:
            text = "\n\n".join(context.format(character) for character in points)
            _same(name, ours, theirs, text)
    return len(points) * len(CONTEXTS)


def random_strings(rng, number=10_000):
    """Strings over one alphabet or a mixture; each short, by itself, and all of them together as long texts."""
    draw = random.Random(int(rng.integers(1 << 62)))
    texts = []
    for _ in range(number):
        alphabet = "".join(draw.sample(ALPHABETS, draw.choice((1, 1, 2, len(ALPHABETS)))))
        texts.append("".join(draw.choices(alphabet, k=draw.choice((1, 3, 10, 30, 100)))))
    for name, ours, theirs in tokenizers():
        expected = [theirs.encode_ordinary(text) for text in texts]
        for text, ids in zip(texts, expected):
            assert ours.encode_ordinary(text) == ids, f"{name}: {text!r}"
        assert ours.encode_batch(texts, disallowed_special=()) == expected, f"{name}: as a batch"
        _same(name, ours, theirs, "".join(texts))
    return number


def random_merges(rng, pieces=10_000, vocabularies=10):
    """Pieces over a few letters, with vocabularies trained on such pieces or made of random merges."""
    draw = random.Random(int(rng.integers(1 << 62)))
    return sum(_with_random_ranks(draw, pieces) for _ in range(vocabularies))


def _with_random_ranks(draw, pieces):
    ranks = random_ranks(draw)
    tokenizer = BPETokenizer(ranks)
    words = [bytes(draw.choices(b"abcd", k=draw.choice((1, 2, 5, 8, 20, 60, 150)))) for _ in range(pieces)]
    words += [token for token in ranks if set(token) <= set(b"abcd")]
    twin = tiktoken_twin(tokenizer)._core_bpe
    expected = [twin.encode_single_piece(word) for word in words]
    for word, want in zip(words, expected):
        assert tokenizer._encoder.plain.encode_pretoken(word) == want, f"{word!r} with {ranks}"
    if tokenizer._encoder.vectorized is None:  # a token before its parts: `fast` has nothing for it, and says so
        assert find_merges(ranks) is None
        return 0
    found = [
        ids.tolist() for ids in tokenizer._encoder.vectorized.encode_blocks("\n".join(word.decode() for word in words))
    ]
    wanted = [token for want in expected for token in (*want, ranks[b"\n"])]
    assert [token for ids in found for token in ids] == wanted[:-1], f"{words} with {ranks}"
    return pieces


def random_ranks(draw):
    """A vocabulary over a, b, c, d: trained on random text, or of random merges, two of its tokens never made.

    Tokens may be longer than the pieces that are remembered, and have 0xFF; bytes may have any ids.
    """
    if draw.random() < 0.5:
        text = " ".join("".join(draw.choices("abcd", k=draw.choice((3, 9, 40)))) for _ in range(draw.choice((5, 50))))
        return train_bpe(text, 256 + draw.choice((5, 40, 200)), pattern=GPT2_PATTERN).ranks
    merges, tokens = [], [b"a", b"b", b"c", b"d", b"\xff"]
    longest = draw.choice((10, 30, 300))
    for _ in range(draw.choice((3, 10, 60))):
        token = draw.choice(tokens) + draw.choice(tokens[-6:] if longest > 30 else tokens)
        if token not in tokens and len(token) <= longest:
            merges.append(token)
            tokens.append(token)
    merges += {bytes(draw.choices(b"abcd", k=length)) for length in (9, 200)} - {*merges}
    table = [bytes([byte]) for byte in range(256)]
    if draw.random() < 0.5:
        draw.shuffle(table)
    table = [*merges, *table] if draw.random() < 0.3 else [*table, *merges]
    first = draw.choice((0, 0, 1000))
    return {token: first + place for place, token in enumerate(table)}


def merged(merges, words, ranks):
    """What a Merger makes of byte strings: tokens and ends."""
    merger = Merger(*merges, [ranks[bytes([byte])] for byte in range(256)])
    ends = np.zeros(sum(map(len, words)), bool)
    ends[np.cumsum([len(word) for word in words]) - 1] = True
    tokens, ends, left = merger.merge(np.frombuffer(b"".join(words), np.uint8), ends)
    assert not left.any()
    return tokens, ends


def long_pieces(rng, size=1_000_000):
    """A single piece of a megabyte: random letters, digits, marks; one letter, two in turn; words without blanks."""
    draw = random.Random(int(rng.integers(1 << 62)))
    words = [token.decode() for token in gpt2().ranks if token.isascii() and token.isalpha()]
    for text in (
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=size)),
        "".join(draw.choices("0123456789", k=size)),
        "".join(draw.choices("+-*/=<>!#", k=size)),
        "".join(draw.choices("\u4e00\u4e8c\u4e09\u5341", k=size // 3)),
        "".join(draw.choices(words, k=size // 6)),
        draw.choice("aez") * size,
        "ab" * (size // 2),
        "-" * size + "=" * draw.randrange(9),
        " " * size,
        "\n" * size,
    ):
        for name, ours, theirs in tokenizers():
            _same(name, ours, theirs, text)
    return size * 10


def documents(rng, number=5000):
    """A batch of documents of all lengths, empty ones among them, with blanks and apostrophes at their ends."""
    draw = random.Random(int(rng.integers(1 << 62)))
    ends = ("", " ", "  ", "\n", "'", "'l", "!", "\r\n ", "\u3000", "\ud800")
    texts = []
    for _ in range(number):
        alphabet = draw.choice(ALPHABETS)
        middle = "".join(draw.choices(alphabet, k=draw.choice((0, 1, 5, 50, 500))))
        texts.append(draw.choice(ends) + middle + draw.choice(ends))
    for name, ours, theirs in tokenizers():
        expected = [theirs.encode_ordinary(text) for text in texts]
        assert ours.encode_batch(texts, disallowed_special=()) == expected, name
    return number


def _same(name, ours, theirs, text):
    ids = ours.encode_to_numpy(text, disallowed_special=())
    try:
        expected = theirs.encode_ordinary(text)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        # tiktoken's regular expressions give up on very long runs; what ours says can still be held against the text
        assert ours.decode(ids) == text, f"{name}: decoded, it is another text"
        return
    if ids.tolist() != expected:
        place = next(i for i, (one, other) in enumerate(zip([*ids, -1], [*expected, -1])) if one != other)
        near = theirs.decode(expected[max(0, place - 5) : place + 5])
        raise AssertionError(f"{name}: the ids differ from number {place} on, near {near!r}")


ROUNDS = {
    "random strings": (random_strings, 300),
    "random merges": (random_merges, 2000),
    "long pieces": (long_pieces, 20_000),
    "documents": (documents, 500),
    "every code point": (every_code_point, 500),
}  # each with how much of it is enough for every run of the tests

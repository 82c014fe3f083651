"""Rounds of random texts, compared with tiktoken or with plain BPE; `python -m tests.fuzz` repeats them.

Each function takes a NumPy Generator, and how much to compare; it raises AssertionError at the first difference and
returns how many texts, pre-tokens or characters were compared.
"""

import random
import sys

import numpy as np

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.merge import merge_by_rank
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized.merge_tree import find_irregular, find_merges
from npllm.tokenizers.vectorized.parallel_merge import ParallelMerger
from tests.tokenizers.peers import encode_vectorized, encoder_of, gpt2, gpt2_tiktoken, trained
from tests.tokenizers.tiktoken_patterns import TIKTOKEN_PATTERNS, tiktoken_encoding

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
    "\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff",  # where the length in UTF-8 changes
)


def tokenizers():
    """(name, npllm's, tiktoken's) for GPT-2's vocabulary and, with the other patterns, for trained ones."""
    for name, ours in [("GPT-2", gpt2()), *((name, trained(name)) for name in PATTERNS)]:
        yield name, ours, gpt2_tiktoken() if name == "GPT-2" else tiktoken_encoding(ours, TIKTOKEN_PATTERNS[name])


def every_code_point(rng, every=1):
    """Each code point (or each `every`-th, from a random one on) in every context, one text for each context."""
    first = int(rng.integers(every))
    points = [chr(point) for point in range(first, sys.maxunicode + 1, every) if not 0xD800 <= point <= 0xDFFF]
    for name, ours, theirs in tokenizers():
        for context in CONTEXTS:
            text = "\n\n".join(context.format(character) for character in points)
            compare_ids(name, ours, theirs, text)
    return len(points) * len(CONTEXTS)


def random_strings(rng, number=10_000):
    """Strings over one alphabet or several; each short one by itself, as a batch, and joined into one long text."""
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
        compare_ids(name, ours, theirs, "".join(texts))
    return number


def random_merges(rng, vocabularies=10, pretokens=10_000):
    """Pre-tokens over a few letters, with vocabularies trained on such pre-tokens or made of random merges."""
    draw = random.Random(int(rng.integers(1 << 62)))
    return sum(_compare_random_vocabulary(draw, pretokens) for _ in range(vocabularies))


def _compare_random_vocabulary(draw, number):
    """Compare the vectorized encoder on all pre-tokens, and the plain merges, which are slower, on every tenth."""
    ranks = random_ranks(draw)
    tokenizer = BPETokenizer(ranks)
    pretokens = [bytes(draw.choices(b"abcd", k=draw.choice((1, 2, 5, 8, 20, 60, 150)))) for _ in range(number)]
    pretokens += [token for token in ranks if set(token) <= set(b"abcd")]
    draw.shuffle(pretokens)
    core = tiktoken_encoding(tokenizer)._core_bpe
    expected = [core.encode_single_piece(pretoken) for pretoken in pretokens]
    for pretoken, ids in zip(pretokens[::10], expected[::10]):
        assert tokenizer.encode_bytes(pretoken) == ids, f"{pretoken!r} with {ranks}"
    found = encode_vectorized(tokenizer, "\n".join(pretoken.decode() for pretoken in pretokens))
    wanted = [token_id for ids in expected for token_id in (*ids, ranks[b"\n"])]
    assert found == wanted[:-1], f"{pretokens} with {ranks}"
    return number


def random_ranks(draw):
    """A vocabulary over a, b, c, d: trained on random text, or of random merges and two tokens that nothing produces.

    Tokens may be longer than the pre-tokens that are cached, and contain 0xFF; single bytes may have any ids.
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
    return {token: first + index for index, token in enumerate(table)}


def competing_merges(rng, vocabularies=10_000, pretokens=30):
    """Vocabularies of a few merges of two letters, in which most merges compete with others, against plain BPE."""
    draw, compared = random.Random(int(rng.integers(1 << 62))), 0
    for _ in range(vocabularies):
        ranks = competing_ranks(draw)
        merges = find_merges(ranks)
        if not find_irregular(*merges, ranks):  # the parallel merger alone does not apply to these
            drawn = [bytes(draw.choices(b"ab", k=draw.choice((4, 8, 20)))) for _ in range(pretokens)]
            ids, _ = merge_in_parallel(merges, drawn, ranks)
            expected = [ranks[token] for pretoken in drawn for token in merge_by_rank(pretoken, ranks)]
            assert ids.tolist() == expected, f"{drawn} with {ranks}"
            compared += pretokens
    return compared


def competing_ranks(draw):
    """A vocabulary of the single bytes and up to ten random merges of a and b, with at most six letters."""
    tokens, letters = [bytes([byte]) for byte in range(256)], [b"a", b"b"]
    for _ in range(draw.randrange(5, 20)):
        token = draw.choice(letters) + draw.choice(letters)
        if len(token) <= 6 and token not in letters and len(letters) < 12:
            letters.append(token)
            tokens.append(token)
    return {token: rank for rank, token in enumerate(tokens)}


def merge_in_parallel(merges, pretokens, ranks):
    """The result of a ParallelMerger on byte strings: ids, and whether each is the last of its pre-token."""
    merger = ParallelMerger(*merges, np.array([ranks[bytes([byte])] for byte in range(256)]))
    is_last = np.zeros(sum(map(len, pretokens)), bool)
    is_last[np.cumsum([len(pretoken) for pretoken in pretokens]) - 1] = True
    ids, is_last, unfinished = merger.merge(np.frombuffer(b"".join(pretokens), np.uint8), is_last)
    assert not unfinished.any()
    return ids, is_last


def long_pretokens(rng, size=1_000_000):
    """Texts of `size` characters without a safe split point: letters, digits, punctuation, repetitions, whitespace."""
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
            compare_ids(name, ours, theirs, text)
    return size * 10


def documents(rng, number=5000):
    """A batch of documents of all lengths, empty ones among them, with whitespace and apostrophes at their ends."""
    draw = random.Random(int(rng.integers(1 << 62)))
    ends = ("", " ", "  ", "\n", "'", "'l", "!", "\r\n ", "\u3000", "\ud800")
    texts = []
    for _ in range(number):
        alphabet = draw.choice(ALPHABETS)
        middle = "".join(draw.choices(alphabet, k=draw.choice((0, 1, 5, 50, 500))))
        texts.append(draw.choice(ends) + middle + draw.choice(ends))
    for name, ours, theirs in tokenizers():
        expected = [theirs.encode_ordinary(text) for text in texts]
        assert list(encoder_of(ours).encode_batch(map(replace_surrogates, texts))) == expected, name
    return number


def compare_ids(name, ours, theirs, text):
    """Raise AssertionError unless the vectorized encoder and tiktoken give the same ids."""
    ids = encode_vectorized(ours, text)
    try:
        expected = theirs.encode_ordinary(text)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        # tiktoken's regular expressions fail on very long runs; the ids can still be compared with the text
        assert ours.decode(ids) == text, f"{name}: decoding gives another text"
        return
    if ids != expected:
        index = next(i for i, (one, other) in enumerate(zip([*ids, -1], [*expected, -1])) if one != other)
        near = theirs.decode(expected[max(0, index - 5) : index + 5])
        raise AssertionError(f"{name}: the ids differ from index {index} on, near {near!r}")


ROUNDS = {  # each with the arguments of a short round, for every run of the tests
    "random strings": (random_strings, {"number": 300}),
    "random merges": (random_merges, {"vocabularies": 25, "pretokens": 100}),
    "competing merges": (competing_merges, {"vocabularies": 200}),
    "long pre-tokens": (long_pretokens, {"size": 20_000}),
    "documents": (documents, {"number": 500}),
    "every code point": (every_code_point, {"every": 500}),
}

"""GPT-2's ids: npllm, tiktoken and Hugging Face's tokenizers from the same ranks, and OpenAI's algorithm in plain form.

npllm caches the ids of pre-tokens. "cold": the cache is emptied before each run; "warm": the text was encoded before.
"""

import tempfile
from functools import lru_cache
from pathlib import Path

import tiktoken
import tiktoken.load
import tokenizers

from benchmarks import texts
from benchmarks.measure import Job
from benchmarks.memory import peak_of_numpy
from npllm.tokenizers import BPETokenizer, GPT2Tokenizer, train_bpe
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from npllm.tokenizers.byte_pair.merge import merge_by_rank
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS, pretokenize
from npllm.utils import corpora
from tests.tokenizers.tiktoken_patterns import TIKTOKEN_PATTERNS, tiktoken_encoding

LINES = 40_000
CORPORA = ("story", "tinyshakespeare")
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)


def jobs(names=CORPORA, sizes=SIZES, hard=1_000_000, sources=2_000_000, strings=300):
    """Encode, decode, and load; the sizes are in characters."""
    tokenizer = GPT2Tokenizer.load()
    for name in names:
        if corpora.find(name) is not None:
            text = corpora.read(name)
            size = f"{corpora.get_corpus(name).title}, {len(text):,} characters"
            yield from _corpus(tokenizer, text, size, with_loops=name == "story")
    programs = texts.markdown_and_python()[:sources]
    yield from _cold_and_warm(tokenizer, programs, f"Markdown and Python, {len(programs):,} characters")
    languages = texts.many_languages(min(sources, 500_000))
    yield from _cold_and_warm(tokenizer, languages, f"eleven languages, {len(languages):,} characters")
    yield from _short(tokenizer, programs, strings, "Markdown and Python")
    yield from _short(tokenizer, languages, strings // 6, "eleven languages")
    for size in sizes:
        yield from _cold_and_warm(
            tokenizer, (programs * (1 + size // len(programs)))[:size], f"growth: {size:,} characters"
        )
    for name, text in texts.hard_texts(hard).items():
        yield _cold(tokenizer, text, f"{name}, {len(text):,} characters")
    yield _large_pre_token(tokenizer, 5 * hard)
    yield from _patterns()
    yield from _loading()


tiktoken_reference = lru_cache(tiktoken_encoding)


@lru_cache
def hugging_face(tokenizer):
    """Hugging Face's tokenizer with GPT-2's files."""
    vocabulary = {token_to_unicode(token): rank for token, rank in tokenizer.ranks.items()}
    merges = [(token_to_unicode(left), token_to_unicode(right)) for left, right in tokenizer.merges()]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return theirs


def _corpus(tokenizer, text, size, with_loops):
    theirs, ids = tiktoken_reference(tokenizer), tokenizer.encode_to_numpy(text)
    cached = {}

    def plain(text=text):
        """OpenAI's encoder.py: a regular expression, and merges by rank, with a dict of the ids of pre-tokens."""
        result = []
        for pre_token in pretokenize(text):
            if pre_token not in cached:
                cached[pre_token] = [
                    tokenizer.ranks[token] for token in merge_by_rank(pre_token.encode(), tokenizer.ranks)
                ]
            result += cached[pre_token]
        return result

    yield Job(
        "encode to array, cold",
        size,
        lambda: tokenizer.encode_to_numpy(text),
        {"tiktoken": lambda: theirs.encode_to_numpy(text)},
        before=tokenizer.clear_cache,
    )
    yield Job(
        "encode to array, warm",
        size,
        lambda: tokenizer.encode_to_numpy(text),
        {"tiktoken": lambda: theirs.encode_to_numpy(text)},
    )

    def clear():
        tokenizer.clear_cache()
        cached.clear()

    others = {
        "tiktoken": lambda: theirs.encode_ordinary(text),
        "Hugging Face": lambda: hugging_face(tokenizer).encode(text).ids,
        "OpenAI's algorithm, plain": plain,
    }
    loops = None
    if with_loops:

        def loops():
            pre_tokens = (pre_token.encode() for pre_token in pretokenize(text))
            return [
                tokenizer.ranks[token]
                for pre_token in pre_tokens
                for token in merge_by_rank(pre_token, tokenizer.ranks)
            ]

    yield Job("encode to list, cold", size, lambda: tokenizer.encode_ordinary(text), others, loops, before=clear)
    yield Job(
        "encode to list, warm",
        size,
        lambda: tokenizer.encode_ordinary(text),
        {name: others[name] for name in ("tiktoken", "OpenAI's algorithm, plain")},
    )
    lines = (text.split("\n") * (1 + LINES // (text.count("\n") + 1)))[:LINES]
    yield Job(
        "encode_batch, warm",
        f"{LINES:,} lines of {size}",
        lambda: tokenizer.encode_batch(lines),
        {
            "tiktoken in a loop": lambda: [theirs.encode(line) for line in lines],
            "tiktoken's batch": lambda: theirs.encode_batch(lines),
        },
    )
    yield Job("decode an array", size, lambda: tokenizer.decode(ids), {"tiktoken": lambda: theirs.decode(ids)})
    as_list = ids.tolist()
    yield Job("decode a list", size, lambda: tokenizer.decode(as_list), {"tiktoken": lambda: theirs.decode(as_list)})


def _cold(tokenizer, text, size, theirs=None):
    theirs = theirs or tiktoken_reference(tokenizer)
    return Job(
        "encode to list, cold",
        size,
        lambda: tokenizer.encode_ordinary(text),
        {"tiktoken": lambda: theirs.encode_ordinary(text)},
        before=tokenizer.clear_cache,
    )


def _cold_and_warm(tokenizer, text, size, theirs=None):
    theirs = theirs or tiktoken_reference(tokenizer)
    yield _cold(tokenizer, text, size, theirs)
    yield Job(
        "encode to list, warm",
        size,
        lambda: tokenizer.encode_ordinary(text),
        {"tiktoken": lambda: theirs.encode_ordinary(text)},
    )


def _short(tokenizer, text, number, title):
    theirs = tiktoken_reference(tokenizer)
    for length in (20, 100, 500, 2000, 5000, 20_000):
        parts = [text[begin : begin + length] for begin in range(0, min(len(text), number * length), length)]
        yield Job(
            "encode strings, warm",
            f"{title}, {len(parts)} of {length:,} characters",
            lambda parts=parts: [tokenizer.encode_ordinary(part) for part in parts],
            {"tiktoken": lambda parts=parts: [theirs.encode_ordinary(part) for part in parts]},
        )


def _large_pre_token(tokenizer, size):
    text = texts.hard_texts(size)["random letters"]
    return Job(
        "encode one pre-token to array",
        f"{size:,} letters",
        lambda: tokenizer.encode_to_numpy(text),
        {"tiktoken": lambda: tiktoken_reference(tokenizer).encode_to_numpy(text)},
        memory={"npllm": peak_of_numpy},
    )


def _patterns():
    text = texts.markdown_and_python()
    for name in ("cl100k", "o200k"):
        tokenizer = train_bpe(corpora.read("story"), 1024, pattern=PATTERNS[name])
        size = f"{name}'s pattern, 1,024 tokens, {len(text):,} characters"
        yield from _cold_and_warm(tokenizer, text, size, tiktoken_reference(tokenizer, TIKTOKEN_PATTERNS[name]))


def _loading():
    """From the files to the ids of a text, with all tables that are built on the way."""

    def theirs(load, text):
        pattern = TIKTOKEN_PATTERNS["gpt2"]
        encoding = tiktoken.Encoding("loaded", pat_str=pattern, mergeable_ranks=load(), special_tokens={})
        return encoding.encode_ordinary(text)

    def from_openai():
        return tiktoken.load.data_gym_to_mergeable_bpe_ranks(f"{openai}/vocab.bpe", f"{openai}/encoder.json")

    with tempfile.TemporaryDirectory() as folder:
        openai = Path(folder) / "openai"  # vocab.bpe and encoder.json, which both read
        GPT2Tokenizer.load().save(openai)
        ranks = str(Path(folder) / "gpt2.tiktoken")
        GPT2Tokenizer.load().save(ranks)
        for length in (3000, 1_000_000):
            text = texts.markdown_and_python()[:length]
            yield Job(
                "load OpenAI's two files, then encode",
                f"GPT-2, {length:,} characters",
                lambda text=text: BPETokenizer.load(openai).encode_ordinary(text),
                {"tiktoken": lambda text=text: theirs(from_openai, text)},
            )
            yield Job(
                "load a .tiktoken, then encode",
                f"GPT-2, {length:,} characters",
                lambda text=text: BPETokenizer.load(ranks).encode_ordinary(text),
                {"tiktoken": lambda text=text: theirs(lambda: tiktoken.load.load_tiktoken_bpe(ranks), text)},
            )

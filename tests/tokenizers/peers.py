"""tiktoken, built from the same ranks: the independent witness of the byte pair encoding; texts for Hugging Face."""

import sys
from functools import lru_cache

import tiktoken
from tokenizers import Regex, pre_tokenizers

from npllm import corpora
from npllm.tokenizers import BPETokenizer, GPT2Tokenizer, train_bpe
from npllm.tokenizers.split import CLASSES, O200K_PATTERN, PATTERNS, split_pieces
from npllm.tokenizers.surrogates import repair
from tests.strategies import texts

# tiktoken's own spelling of GPT-2's pattern, with possessive quantifiers
TIKTOKEN_GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
# as tiktoken's openai_public.py has them
TIKTOKEN_PATTERNS = {
    "gpt2": TIKTOKEN_GPT2_PATTERN,
    "cl100k": (
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
        r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
    ),
    "o200k": O200K_PATTERN,
}


def tiktoken_twin(tokenizer, pattern=TIKTOKEN_GPT2_PATTERN):
    """tiktoken's Encoding with the tokenizer's ranks and special tokens."""
    return tiktoken.Encoding(
        "twin", pat_str=pattern, mergeable_ranks=tokenizer.ranks, special_tokens=tokenizer.special_tokens
    )


@lru_cache
def gpt2():
    """npllm's GPT-2 tokenizer, loaded once."""
    return GPT2Tokenizer.load()


@lru_cache
def gpt2_twin():
    """tiktoken's."""
    return tiktoken_twin(gpt2())


@lru_cache
def trained(name):
    """A vocabulary of 600 tokens, trained on the story and a few other scripts with the named pattern.

    Its ids begin at 70,000, above 65,535, but for the bytes.
    """
    text = (
        corpora.read("story")
        + "naïve café 日本語 中文字 हिन्दी \U0001f600\ufe0f Привет, МИР! 12345 HTTPServer's\n\n" * 9
    )
    tokenizer = train_bpe(text, 600, pattern=PATTERNS[name], special_tokens=["<|endoftext|>"])
    ranks = {token: rank if rank < 256 else rank + 69_744 for token, rank in tokenizer.ranks.items()}
    return BPETokenizer(ranks, PATTERNS[name], {"<|endoftext|>": 80_000})


@lru_cache
def understood_alike():
    """The characters of the same classes on both sides: Oniguruma's Unicode is not tiktoken's, hence not ours."""
    everything = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF]
    alike = set(everything)
    for name in CLASSES:
        split = pre_tokenizers.Split(Regex(name + "+"), "removed", invert=True)
        theirs = "".join(piece for piece, _ in split.pre_tokenize_str("".join(everything)))
        alike -= set(theirs) ^ set("".join(split_pieces("".join(everything), name + "+")))
    return alike


plain_texts = texts.map(lambda text: "".join(filter(understood_alike().__contains__, repair(text))))

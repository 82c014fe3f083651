"""tiktoken, built from the same ranks: the independent witness of the byte pair encoding."""

from functools import lru_cache

import tiktoken

from npllm.tokenizers import GPT2Tokenizer

# tiktoken's own spelling of GPT-2's pattern, with possessive quantifiers
TIKTOKEN_GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


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

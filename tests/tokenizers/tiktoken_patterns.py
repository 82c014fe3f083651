"""The patterns as tiktoken writes them, with possessive quantifiers, and tiktoken's encodings from npllm's ranks."""

import tiktoken

from npllm.tokenizers.byte_pair.pretokenize import O200K_PATTERN
from npllm.tokenizers.byte_pair.published_patterns import PUBLISHED_PATTERNS

# of openai_public.py, a module of tiktoken
TIKTOKEN_PATTERNS = {
    "gpt2": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    "cl100k": (
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
        r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
    ),
    "o200k": O200K_PATTERN,
    **PUBLISHED_PATTERNS,  # tiktoken takes them as they are
}


def tiktoken_encoding(tokenizer, pattern=TIKTOKEN_PATTERNS["gpt2"]):
    """tiktoken's Encoding with the tokenizer's ranks and special tokens."""
    return tiktoken.Encoding(
        "reference", pat_str=pattern, mergeable_ranks=tokenizer.ranks, special_tokens=tokenizer.special_tokens
    )

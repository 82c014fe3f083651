"""Which patterns have a pre-tokenizer with array operations.

    pattern → [pre-tokenizer] → code points → starts of pre-tokens

A pattern is found by its exact text, or that of another spelling (`byte_pair.pattern_spellings`).
"""

from collections.abc import Callable

import numpy as np

from npllm.tokenizers.byte_pair.pattern_spellings import canonical_pattern
from npllm.tokenizers.byte_pair.pretokenize import CL100K_PATTERN, GPT2_PATTERN, O200K_PATTERN
from npllm.tokenizers.byte_pair.published_patterns import (
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    QWEN35_PATTERN,
    TEKKEN_PATTERN,
)
from npllm.tokenizers.vectorized.pretokenize_gpt2 import gpt2_starts
from npllm.tokenizers.vectorized.pretokenize_gpt4 import (
    cl100k_starts,
    llama3_starts,
    o200k_starts,
    qwen2_starts,
    qwen35_starts,
    tekken_starts,
)

Pretokenizer = Callable[[np.ndarray, np.ndarray], np.ndarray]  # code points and separators → starts of pre-tokens
PRETOKENIZERS: dict[str, Pretokenizer] = {
    GPT2_PATTERN: gpt2_starts,
    CL100K_PATTERN: cl100k_starts,
    O200K_PATTERN: o200k_starts,
    LLAMA3_PATTERN: llama3_starts,
    QWEN2_PATTERN: qwen2_starts,
    QWEN35_PATTERN: qwen35_starts,
    TEKKEN_PATTERN: tekken_starts,
}


def find_pretokenizer(pattern: str) -> Pretokenizer | None:
    """The pre-tokenizer of a pattern in any of its spellings; None if there is none with array operations."""
    return PRETOKENIZERS.get(canonical_pattern(pattern))

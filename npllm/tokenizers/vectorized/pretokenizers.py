"""Which patterns have a pre-tokenizer with array operations.

    pattern → [pre-tokenizer] → code points → starts of pre-tokens

A pattern is found by its exact text, or that of another spelling (`byte_pair.pattern_spellings`). Several steps have a
pre-tokenizer if all but the last isolate numbers or Chinese and Japanese characters (`pretokenize_steps`).
"""

from npllm.tokenizers.byte_pair.pattern_spellings import canonical_pattern
from npllm.tokenizers.byte_pair.pre_tokenizers import Step
from npllm.tokenizers.byte_pair.pretokenize import CL100K_PATTERN, GPT2_PATTERN, O200K_PATTERN
from npllm.tokenizers.byte_pair.published_patterns import (
    DEEPSEEK_V3_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    QWEN35_PATTERN,
    TEKKEN_PATTERN,
)
from npllm.tokenizers.vectorized.pretokenize_deepseek import deepseek_v3_starts
from npllm.tokenizers.vectorized.pretokenize_gpt2 import Pretokenizer, gpt2_starts
from npllm.tokenizers.vectorized.pretokenize_gpt4 import (
    cl100k_starts,
    llama3_starts,
    o200k_starts,
    qwen2_starts,
    qwen35_starts,
    tekken_starts,
)
from npllm.tokenizers.vectorized.pretokenize_steps import steps_pretokenizer

PRETOKENIZERS: dict[str, Pretokenizer] = {
    GPT2_PATTERN: gpt2_starts,
    CL100K_PATTERN: cl100k_starts,
    O200K_PATTERN: o200k_starts,
    LLAMA3_PATTERN: llama3_starts,
    QWEN2_PATTERN: qwen2_starts,
    QWEN35_PATTERN: qwen35_starts,
    TEKKEN_PATTERN: tekken_starts,
}


LAST_STEPS = PRETOKENIZERS | {DEEPSEEK_V3_PATTERN: deepseek_v3_starts}


def find_pretokenizer(pattern: str | tuple[Step, ...]) -> Pretokenizer | None:
    """The pre-tokenizer of a pattern or of steps; None if there is none with array operations."""
    if isinstance(pattern, str):
        return PRETOKENIZERS.get(canonical_pattern(pattern))
    return steps_pretokenizer(pattern, LAST_STEPS)

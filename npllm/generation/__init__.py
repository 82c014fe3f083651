"""Generation: a model predicts the next token, which is appended to the sequence, again and again.

Read in this order: sampling, autoregressive.
"""

from npllm.generation.autoregressive import complete, generate
from npllm.generation.sampling import Sampling, penalize_repetition, sample, top_k_filter, top_p_filter

__all__ = [
    "Sampling",
    "complete",
    "generate",
    "penalize_repetition",
    "sample",
    "top_k_filter",
    "top_p_filter",
]

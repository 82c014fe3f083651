"""Generation: a model predicts the next token, which is appended to the sequence, again and again.

Read in this order: filters, penalties, sampling, next_logits, stop_strings, autoregressive, text, chat_template, chat.
"""

from npllm.generation.autoregressive import complete, generate
from npllm.generation.chat import Chat
from npllm.generation.chat_template import render_chat
from npllm.generation.filters import exclude_ids, min_p_filter, top_k_filter, top_p_filter
from npllm.generation.next_logits import NextLogits
from npllm.generation.penalties import add_bias, penalize_frequency, penalize_repetition
from npllm.generation.sampling import Sampling, sample
from npllm.generation.stop_strings import StopStrings
from npllm.generation.text import GeneratedToken, generate_text, generate_tokens

__all__ = [
    "Chat",
    "GeneratedToken",
    "NextLogits",
    "Sampling",
    "StopStrings",
    "add_bias",
    "complete",
    "exclude_ids",
    "generate",
    "generate_text",
    "generate_tokens",
    "min_p_filter",
    "penalize_frequency",
    "penalize_repetition",
    "render_chat",
    "sample",
    "top_k_filter",
    "top_p_filter",
]

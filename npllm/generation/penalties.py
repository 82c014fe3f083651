"""Penalties and biases: change the logits of tokens that occurred before, or of tokens that the caller names.

    logits → [logit bias → repetition penalty → frequency and presence penalty] → temperature → …

The repetition penalty counts the tokens of the prompt and those generated so far. The frequency and the presence
penalty count the generated tokens only.

Repetition penalty: Keskar et al. 2019 (CTRL), section 4.1; frequency penalty, presence penalty and logit bias: OpenAI,
API reference.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from npllm.core.checks import as_indices, check_above_zero, check_integer, check_number, check_shape
from npllm.generation.filters import as_logits


def penalize_repetition(logits: np.ndarray, ids: Sequence[int], penalty: float) -> np.ndarray:
    """y = logit / penalty where positive, logit · penalty where negative, for every id in ids      (V), (N) → (V)

    With a penalty above 1 the ids become less likely; 1 changes nothing. Raises ValueError unless penalty > 0.
    """
    logits = as_logits(logits)
    penalty = check_above_zero("penalty", penalty)
    penalized = logits.copy()
    used = _as_ids(ids, len(logits))  # an id that occurs twice gets the same value twice
    penalized[used] = np.where(logits[used] > 0, logits[used] / penalty, logits[used] * penalty)
    return penalized


def penalize_frequency(
    logits: np.ndarray, ids: Sequence[int], frequency_penalty: float = 0.0, presence_penalty: float = 0.0
) -> np.ndarray:
    """yᵢ = logitᵢ − frequency_penalty · countᵢ − presence_penalty · [countᵢ > 0]      (V), (N) → (V)

    countᵢ is the number of times that id i occurs in ids. Positive penalties make the ids less likely.
    """
    logits = as_logits(logits)
    frequency_penalty = check_number("frequency_penalty", frequency_penalty)
    presence_penalty = check_number("presence_penalty", presence_penalty)
    penalized = logits.copy()
    used, counts = np.unique(_as_ids(ids, len(logits)), return_counts=True)
    penalized[used] -= (frequency_penalty * counts + presence_penalty).astype(logits.dtype)
    return penalized


def add_bias(logits: np.ndarray, logit_bias: Mapping[int, float]) -> np.ndarray:
    """yᵢ = logitᵢ + biasᵢ for every id i in logit_bias      (V) → (V)

    A bias of −∞ excludes the id. Raises IndexError for an id outside of the vocabulary.
    """
    logits = as_logits(logits).copy()
    check_logit_bias(logit_bias)
    ids = as_indices("logit_bias", list(logit_bias), 0, len(logits))
    logits[ids] += np.array(list(logit_bias.values()), logits.dtype)
    return logits


def check_logit_bias(logit_bias: Mapping[int, float]) -> None:
    """Raise TypeError or ValueError unless it is a dict from ids to numbers, which are finite or −∞."""
    if not isinstance(logit_bias, Mapping):
        raise TypeError(f"logit_bias is {logit_bias!r:.80}; it must be a dict from ids to numbers")
    for token_id, bias in logit_bias.items():
        check_integer("an id of logit_bias", token_id, 0)
        if not (isinstance(bias, float) and bias == -math.inf):
            check_number(f"logit_bias[{token_id}]", bias)


def _as_ids(ids: Sequence[int], vocab_size: int) -> np.ndarray:
    """The ids as an array; raises ValueError unless they have the shape (N)."""
    array = as_indices("ids", ids, 0, vocab_size)
    check_shape("ids", array, "(N)")
    return array

"""Sampling: how one token is drawn from the model's distribution.

    logits → [biases and penalties → temperature → filters → softmax → draw] → id

The tokens that a filter excludes are left out from there on: 50 of 50,000 are drawn from as fast as one is looked up.

The two files before this one have the biases and penalties, and the filters top-k, top-p and min-p. The order is that
of transformers.

Temperature: Ackley, Hinton, Sejnowski 1985.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType

import numpy as np

from npllm.core.checks import check_above_zero, check_integer, check_number
from npllm.generation.filters import as_logits, min_p_ids, rounding_error, top_k_ids, top_p_ids
from npllm.generation.penalties import add_bias, check_logit_bias, penalize_frequency, penalize_repetition

BLOCK = 256  # weights that are summed up at a time


@dataclass(frozen=True)
class Sampling:
    """How to choose the next token; the defaults draw from the model's own distribution.

    temperature         divides the logits; 0 takes the largest logit (greedy)
    top_k               only the k largest logits
    top_p               only the fewest tokens whose probabilities sum to at least p
    repetition_penalty  above 1, each token of the prompt or of the generated text becomes less likely
    min_p               only tokens with at least this fraction of the largest probability
    frequency_penalty   is subtracted from the logit of a token for each time that it was generated; the prompt is not
                        counted
    presence_penalty    is subtracted once from the logit of each token that was generated; the prompt is not counted
    logit_bias          dict from ids to numbers, which are added to their logits; −∞ excludes an id

    Raises TypeError for a value of another type, and ValueError for one outside of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    min_p: float | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)
        if self.top_k is not None:
            check_integer("top_k", self.top_k, 1)
        if self.top_p is not None and not 0.0 < check_number("top_p", self.top_p) <= 1.0:
            raise ValueError(f"top_p is {self.top_p}; it must be greater than 0 and at most 1")
        if self.min_p is not None and not 0.0 <= check_number("min_p", self.min_p) <= 1.0:
            raise ValueError(f"min_p is {self.min_p}; it must be at least 0 and at most 1")
        check_above_zero("repetition_penalty", self.repetition_penalty)
        check_number("frequency_penalty", self.frequency_penalty)
        check_number("presence_penalty", self.presence_penalty)
        check_logit_bias(self.logit_bias)

    def next_id(
        self, logits: np.ndarray, ids: Sequence[int], rng: np.random.Generator, *, prompt_length: int = 0
    ) -> int:
        """Draw the token that follows `ids`; the first `prompt_length` of them are the prompt      (V) → an int"""
        check_integer("prompt_length", prompt_length, 0)
        if self.logit_bias:
            logits = add_bias(logits, self.logit_bias)
        if self.repetition_penalty != 1.0:
            logits = penalize_repetition(logits, ids, self.repetition_penalty)
        if self.frequency_penalty or self.presence_penalty:
            logits = penalize_frequency(logits, ids[prompt_length:], self.frequency_penalty, self.presence_penalty)
        return self.draw(logits, rng)

    def draw(self, logits: np.ndarray, rng: np.random.Generator) -> int:
        """Draw an id with the probabilities softmax(logits / temperature), after the filters      (V) → an int"""
        logits = as_logits(logits)
        if not np.isfinite(logits.max(initial=-np.inf)):  # nan if there is one
            raise ValueError("the logits have no finite maximum; the model's weights may have overflowed")
        if self.temperature == 0:
            return int(logits.argmax())
        if not callable(getattr(rng, "random", None)) or isinstance(rng, (np.random.RandomState, ModuleType)):
            raise TypeError(f"rng is {rng!r}; it must be a numpy.random.Generator, such as np.random.default_rng(0)")
        tolerance = rounding_error(logits)
        logits = _divide(logits, float(self.temperature))
        ids = None
        for kept in self._filters(tolerance):
            selected = kept(logits)
            ids, logits = selected if ids is None else ids[selected], logits[selected]
        drawn = draw_index(np.exp(logits, out=logits), rng.random())
        return drawn if ids is None else int(ids[drawn])

    def _filters(self, tolerance: float) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
        """The functions from logits to the ids that are kept, in their order."""
        if self.top_k is not None:
            yield partial(top_k_ids, k=self.top_k)
        if self.top_p is not None:
            yield partial(top_p_ids, p=self.top_p, tolerance=tolerance)
        if self.min_p is not None:
            yield partial(min_p_ids, p=self.min_p, tolerance=tolerance)


def draw_index(weights: np.ndarray, u: float) -> int:
    """The smallest i with w₀ + … + wᵢ > u (w₀ + … + wₙ₋₁), for u in [0, 1)      (N), () → an int

    An index is drawn with a probability in proportion to its weight. Sums of blocks say in which block it is, so that
    only this block is summed up number by number. An index with the weight 0 is never drawn.
    """
    starts = np.arange(0, len(weights), BLOCK)
    cumulative = np.cumsum(np.add.reduceat(weights, starts))
    target = u * float(cumulative[-1])
    block = int(np.searchsorted(cumulative, target, side="right"))
    before = float(cumulative[block - 1]) if block else 0.0
    inside = np.cumsum(weights[block * BLOCK : (block + 1) * BLOCK])
    drawn = int(np.searchsorted(inside, target - before, side="right"))
    last = int(np.searchsorted(inside, inside[-1], side="left"))  # the last weight above 0: rounding may lead beyond
    return block * BLOCK + min(drawn, last)


def sample(
    logits: np.ndarray,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> int:
    """Draw an id with the probabilities softmax(logits / temperature), after the filters      (V) → an int

    temperature 0 takes the largest logit (of equal ones the lowest id) and draws nothing. Raises ValueError for a
    negative temperature, for logits of another shape, and for logits that are nan or have no finite maximum.
    """
    return Sampling(temperature, top_k, top_p, min_p=min_p).draw(logits, rng)


def _divide(logits: np.ndarray, temperature: float) -> np.ndarray:
    """(logits − max) / temperature in float64: the largest is 0, so the division overflows to −∞ at most."""
    logits = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        logits -= logits.max()
        logits /= temperature
    return logits


def _check_temperature(temperature: float) -> float:
    temperature = check_number("temperature", temperature)
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; it must be at least 0")
    return temperature

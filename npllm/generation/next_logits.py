"""The logits of the next token, with the key-value cache of the earlier positions.

ids, grown by one → [what is in the cache is not computed again] → logits of the last position
"""

from collections.abc import Sequence

import numpy as np

from npllm.attention.kv_cache import ModelKVCache
from npllm.core.checks import check_integer, check_positive
from npllm.models.language_model import LanguageModel

CHUNK = 256  # tokens of a prompt that are processed at once: bounds the memory of attention


class NextLogits:
    """Computes the logits of the last position of every sequence; what it computes stays in a key-value cache.

    model         a GPT or a Decoder
    use_kv_cache  False computes all positions again in each call
    num_computed  the number of positions that the last call computed, of each sequence

    Each call compares the ids with those in the cache. Ids appended to them are processed with the cache. So one object
    serves the tokens of an answer as well as the next prompt of a chat, which begins with the prompt and the answer
    before.
    """

    def __init__(self, model: LanguageModel, use_kv_cache: bool = True) -> None:
        check_model(model)
        self.model, self.use_kv_cache = model, use_kv_cache
        self.kv_cache: ModelKVCache | None = None
        self.num_computed = 0
        self._contexts: list[list[int]] = []  # the ids in the cache, without padding

    def __call__(self, sequences: Sequence[list[int]]) -> np.ndarray:
        """The logits of the last positions, (B, V)."""
        length = self.model.context_length
        contexts = [ids[context_start(len(ids), length) :] for ids in sequences]
        rows = self._not_in_cache(contexts)
        if rows is None:
            self.kv_cache, rows = self._new_cache(contexts)
        self._contexts = []  # after an interruption the cache is not used again
        ids = np.array(rows)
        for start in range(0, ids.shape[1], CHUNK):
            hidden_states = self.model.hidden_states(ids[:, start : start + CHUNK], kv_cache=self.kv_cache)
        self._contexts, self.num_computed = contexts, ids.shape[1]
        return self.model.head_forward(hidden_states[:, -1])[0]

    def _not_in_cache(self, contexts: list[list[int]]) -> list[list[int]] | None:
        """The ids of each sequence that follow those in the cache; None if the cache cannot be used."""
        if not self.use_kv_cache or len(contexts) != len(self._contexts):
            return None
        sizes = [_common_length(old, new) for old, new in zip(self._contexts, contexts)]
        if len(contexts) == 1 and sizes[0] < len(self._contexts[0]) and not self.kv_cache.truncate(sizes[0]):
            return None
        if len(contexts) > 1 and any(size < len(old) for size, old in zip(sizes, self._contexts)):
            return None
        rows = [new[size:] for size, new in zip(sizes, contexts)]
        return rows if len(set(map(len, rows))) == 1 else None

    def _new_cache(self, contexts: list[list[int]]) -> tuple[ModelKVCache, list[list[int]]]:
        """An empty cache, and the contexts aligned on the right."""
        longest = max(map(len, contexts))
        left_padding = [longest - len(context) for context in contexts]
        rows = [[0] * padding + context for padding, context in zip(left_padding, contexts)]
        return self.model.new_kv_cache(len(contexts), np.array(left_padding)), rows


def check_model(model: LanguageModel) -> None:
    """Raise TypeError unless the model has what generation calls."""
    if not all(hasattr(model, name) for name in ("config", "context_length", "hidden_states", "head_forward")):
        raise TypeError(f"model is {model!r:.80}; it must be a language model, such as a GPT or a Decoder")


def context_start(num_ids: int, context_length: int) -> int:
    """How many ids at the start are dropped: none while all fit, then half a context at once      () → ()"""
    check_positive(context_length=context_length)
    check_integer("num_ids", num_ids, 0)
    half = max(context_length // 2, 1)
    return 0 if num_ids <= context_length else -(-(num_ids - context_length) // half) * half


def _common_length(old: list[int], new: list[int]) -> int:
    """The number of equal ids at the start, without the last id of `new`, whose logits are wanted."""
    limit = min(len(old), len(new) - 1)
    if old[:limit] == new[:limit]:
        return limit
    return next(index for index, (a, b) in enumerate(zip(old, new)) if a != b)

"""Autoregressive generation: predict the next token, append it, repeat.

    prompt → logits of the last position → sample → one more id → …

A model takes at most `context_length` positions. When a sequence is longer, only its end is the model's context. With
absolute positions, moving the context by one token changes the position of every token, so all keys and values would
have to be computed again for each new token. Instead half of the context is dropped at once: between two such moves
half a context of tokens is generated with the key-value cache, and the average cost of a token stays bounded.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from npllm.core.checks import as_indices
from npllm.generation.sampling import Sampling
from npllm.models.language_model import LanguageModel

CHUNK = 256  # tokens of a prompt that are processed at once: bounds the memory of attention


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_ids: Sequence[int] = (),
    rng: np.random.Generator | None = None,
    use_kv_cache: bool = True,
) -> Iterator[list[int | None]]:
    """Continue several prompts at once; yield after each step one new id for each, None for a sequence that has ended.

    model          a GPT or a Decoder
    prompts        lists of ids, of any lengths
    stop_ids       a sequence ends with the first of these ids, which is yielded
    rng            a generator; each sequence has its own child generator, so it does not depend on the others
    use_kv_cache   False computes all positions again for each token, with the same result

    Ends after `max_new_tokens` steps, or when all sequences have ended. The other options: see Sampling. Raises
    ValueError for an empty prompt and IndexError for an id that the model does not have, before the first step.
    """
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be at least 0")
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
    sequences = [_Sequence(model, prompt, number) for number, prompt in enumerate(prompts)]
    generators = (np.random.default_rng() if rng is None else rng).spawn(len(sequences))
    logits = _NextLogits(model, sequences, use_kv_cache)
    return _steps(logits, sequences, generators, max_new_tokens, sampling, set(stop_ids))


def complete(model: LanguageModel, prompt: Sequence[int], max_new_tokens: int, **options: Any) -> list[int]:
    """The ids that continue one prompt; options as for `generate`."""
    steps = generate(model, [prompt], max_new_tokens, **options)
    return [new_id for (new_id,) in steps if new_id is not None]


def context_start(num_ids: int, context_length: int) -> int:
    """How many ids at the start are dropped: none while all fit, then half a context at once      () → ()"""
    half = max(context_length // 2, 1)
    return 0 if num_ids <= context_length else -(-(num_ids - context_length) // half) * half


def _steps(logits, sequences, generators, max_new_tokens, sampling, stop_ids) -> Iterator[list[int | None]]:
    for _ in range(max_new_tokens if sequences else 0):
        new_ids: list[int | None] = []
        for sequence, row, rng in zip(sequences, logits(), generators):
            new_ids.append(None if sequence.ended else sampling.next_id(row, sequence.ids, rng))
        for sequence, new_id in zip(sequences, new_ids):
            sequence.ids.append(sequence.ids[-1] if new_id is None else new_id)  # an ended one only keeps its length
            sequence.ended |= new_id in stop_ids
        yield new_ids
        if all(sequence.ended for sequence in sequences):
            return


class _Sequence:
    """A prompt and what has been appended to it."""

    def __init__(self, model: LanguageModel, prompt: Sequence[int], number: int) -> None:
        name = f"prompts[{number}]"
        self.ids = as_indices(name, prompt, 0, model.config.vocab_size).tolist() if len(prompt) else []
        if not self.ids:
            raise ValueError(f"{name} is empty; it must have at least one id")
        self.ended = False

    def context(self, context_length: int) -> list[int]:
        """The ids at the end that the model takes."""
        return self.ids[context_start(len(self.ids), context_length) :]


class _NextLogits:
    """Computes the logits of the last position of every sequence, with the key-value cache of the earlier ones."""

    def __init__(self, model: LanguageModel, sequences: list[_Sequence], use_kv_cache: bool) -> None:
        self.model, self.sequences, self.use_kv_cache = model, sequences, use_kv_cache
        self.kv_cache, self.starts = None, None

    def __call__(self) -> np.ndarray:
        """The logits of the last positions, (B, V)."""
        length = self.model.context_length
        starts = [context_start(len(sequence.ids), length) for sequence in self.sequences]
        moved = self.kv_cache is None or starts != self.starts or self.kv_cache.length == length
        if moved or not self.use_kv_cache:
            hidden_states = self._process_contexts()
        else:
            last = np.array([sequence.ids[-1:] for sequence in self.sequences])
            hidden_states = self.model.hidden_states(last, kv_cache=self.kv_cache)
        self.starts = starts
        return self.model.head_forward(hidden_states[:, -1])[0]

    def _process_contexts(self) -> np.ndarray:
        """Process all contexts, aligned on the right, in chunks and with a new cache."""
        contexts = [sequence.context(self.model.context_length) for sequence in self.sequences]
        longest = max(map(len, contexts))
        left_padding = np.array([longest - len(context) for context in contexts])
        ids = np.array([[0] * (longest - len(context)) + context for context in contexts])
        self.kv_cache = self.model.new_kv_cache(len(contexts), left_padding)
        for start in range(0, longest, CHUNK):
            hidden_states = self.model.hidden_states(ids[:, start : start + CHUNK], kv_cache=self.kv_cache)
        return hidden_states

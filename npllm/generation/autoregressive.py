"""Generation: ask for the next token, append it, ask again.

    prompt → logits of the last position → sample → one id more → …

A GPT with learned positions has as many positions as it was trained with, and a token's place is part of its vector.
When the window is full, what is kept must move to other places, so its keys and values must be computed anew. To do
that for every token would make each as dear as a whole window. So half of the window is let go at once: between two
such moves half a window of tokens is written cheaply, and on average a token costs no more than before.
"""

import numpy as np

from npllm.core.checks import as_indices
from npllm.generation.sampling import penalize_repetition, sample

CHUNK = 256  # tokens of a prompt that are read at once: bounds the memory of attention


def generate(
    model,
    prompts,
    max_new_tokens,
    *,
    temperature=1.0,
    top_k=None,
    top_p=None,
    repetition_penalty=1.0,
    stop_ids=(),
    rng=None,
    use_cache=True,
):
    """Continue several prompts at once; yield after each step a list with one new id for each, None where it has ended.

    model           a GPT or a Decoder
    prompts         a list of lists of ids, of any lengths
    stop_ids        a row ends with the first of these ids, which is yielded
    rng             a numpy.random.Generator; each row draws from its own child, so it does not depend on the others
    use_cache       False computes everything anew for each token: the same ids, for those who doubt it

    Ends after `max_new_tokens` steps or when all rows have ended. Sampling: see `sampling.sample`. Raises ValueError
    for an empty prompt, IndexError for an id that the model does not have; both before the first step.
    """
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be at least 0")
    rows = [_Row(model, prompt, number) for number, prompt in enumerate(prompts)]
    generators = (np.random.default_rng() if rng is None else rng).spawn(len(rows))
    return _steps(model, rows, generators, max_new_tokens, temperature, top_k, top_p, repetition_penalty, set(stop_ids),
                  use_cache)  # fmt: skip


def complete(model, prompt, max_new_tokens, **options):
    """The ids that continue one prompt, as a list; options as for `generate`."""
    return [ids[0] for ids in generate(model, [prompt], max_new_tokens, **options)]


def _steps(model, rows, generators, max_new_tokens, temperature, top_k, top_p, repetition_penalty, stop_ids, use_cache):
    reader = _Reader(model, rows, use_cache)
    for _ in range(max_new_tokens if rows else 0):
        logits = reader.last_logits()
        new_ids = []
        for row, scores, rng in zip(rows, logits, generators):
            if row.ended:
                new_ids.append(None)
                continue
            if repetition_penalty != 1.0:
                scores = penalize_repetition(scores, row.ids, repetition_penalty)
            new_ids.append(sample(scores, rng, temperature, top_k, top_p))
        for row, new_id in zip(rows, new_ids):
            row.ids.append(row.ids[-1] if new_id is None else new_id)  # an ended row marks time
            row.ended |= new_id in stop_ids
        yield new_ids
        if all(row.ended for row in rows):
            return


def window_start(num_ids, context_length):
    """How many ids at the start are let go: none while all fit, then half a window at once      () → ()"""
    half = max(context_length // 2, 1)
    return 0 if num_ids <= context_length else -(-(num_ids - context_length) // half) * half


class _Row:
    """A prompt and what has been added to it."""

    def __init__(self, model, prompt, number):
        name = f"prompts[{number}]"
        self.ids = as_indices(name, prompt, 0, model.config.vocab_size).tolist() if len(prompt) else []
        if not self.ids:
            raise ValueError(f"{name} is empty; it must have at least one id")
        self.ended = False

    def window(self, context_length):
        """The ids that the model sees."""
        return self.ids[window_start(len(self.ids), context_length) :]


class _Reader:
    """Reads what is new in the rows, and gives the logits of their last positions."""

    def __init__(self, model, rows, use_cache):
        self.model, self.rows, self.use_cache = model, rows, use_cache
        self.kv_cache, self.starts = None, None

    def last_logits(self):
        """(B, V): what each row's next token may be."""
        length = self.model.context_length
        starts = [window_start(len(row.ids), length) for row in self.rows]
        if self.kv_cache is None or starts != self.starts or self.kv_cache.length == length or not self.use_cache:
            hidden_states = self._read_windows()
        else:
            hidden_states = self.model.hidden_states(np.array([row.ids[-1:] for row in self.rows]), self.kv_cache)
        self.starts = starts
        return self.model.lm_head(hidden_states[:, -1])

    def _read_windows(self):
        """All windows flush right, read in chunks into a new past."""
        windows = [row.window(self.model.context_length) for row in self.rows]
        width = max(map(len, windows))
        left_padding = np.array([width - len(window) for window in windows])
        ids = np.array([[0] * (width - len(window)) + window for window in windows])
        self.kv_cache = self.model.new_kv_cache(len(windows), left_padding)
        for start in range(0, width, CHUNK):
            hidden_states = self.model.hidden_states(ids[:, start : start + CHUNK], self.kv_cache)
        return hidden_states

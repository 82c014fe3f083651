"""Autoregressive generation: predict the next token, append it, repeat.

    prompt → logits of the last position → sample → one more id → …

A model takes at most `context_length` positions. When a sequence is longer, only its end is the model's context. With
absolute positions, moving the context by one token changes the position of every token, so all keys and values would
have to be computed again for each new token. Instead half of the context is dropped at once: between two such moves
half a context of tokens is generated with the key-value cache, and the average cost of a token stays bounded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from npllm.core.checks import as_indices, check_instance, check_integer
from npllm.core.module import as_generator
from npllm.generation.filters import exclude_ids
from npllm.generation.next_logits import NextLogits, check_model
from npllm.generation.sampling import Sampling
from npllm.generation.stop_strings import StopStrings
from npllm.models.language_model import LanguageModel
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.streaming import StreamDecoder


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    logit_bias: Mapping[int, float] | None = None,
    excluded_ids: Iterable[int] = (),
    stop_ids: Iterable[int] = (),
    stop_strings: Iterable[str] = (),
    tokenizer: Tokenizer | None = None,
    rng: np.random.Generator | None = None,
    use_kv_cache: bool = True,
    on_logits: Callable[[np.ndarray], None] | None = None,
    next_logits: NextLogits | None = None,
) -> Iterator[list[int | None]]:
    """Continue several prompts at once; yield after each step one new id for each, None for a sequence that has ended.

    model          a GPT or a Decoder
    prompts        lists of ids, of any lengths
    excluded_ids   ids that are never drawn, such as those of a padded vocabulary, which have no token
    stop_ids       a sequence ends with the first of these ids, which is yielded
    stop_strings   a sequence ends with the id after which its generated text contains one of these strings; needs the
                   `tokenizer`. `generate_text` gives the text before the string
    rng            a generator; each sequence has its own child generator, so it does not depend on the others
    use_kv_cache   False computes all positions again for each token, with the same result
    on_logits      is called in each step with the logits (B, V) before penalties, temperature and filters
    next_logits    a NextLogits of this model, whose key-value cache is used again where a prompt begins with the ids
                   that are in it, as in a chat; None for an empty cache

    Ends after `max_new_tokens` steps, or when all sequences have ended. The other options: see Sampling. Raises
    ValueError for an empty prompt and IndexError for an id that the model does not have, before the first step.
    """
    check_model(model)
    max_new_tokens = check_integer("max_new_tokens", max_new_tokens, 0)
    logit_bias = {} if logit_bias is None else logit_bias
    sampling = Sampling(
        temperature, top_k, top_p, repetition_penalty, min_p, frequency_penalty, presence_penalty, logit_bias
    )
    vocab_size = model.config.vocab_size
    as_indices("logit_bias", list(sampling.logit_bias), 0, vocab_size)
    stop_strings = StopStrings(stop_strings).strings
    prompts = _check_sequence("prompts", prompts, "a sequence of prompts")
    sequences = [
        _Sequence(check_prompt(f"prompts[{number}]", prompt, vocab_size)) for number, prompt in enumerate(prompts)
    ]
    for sequence in sequences:
        sequence.stop_strings = _stop_strings(stop_strings, tokenizer, sequence.ids)
    excluded_ids = _check_ids("excluded_ids", excluded_ids, vocab_size)
    impossible = {token_id for token_id, bias in sampling.logit_bias.items() if bias == -np.inf}
    if len(impossible.union(excluded_ids)) == vocab_size:
        raise ValueError("excluded_ids and logit_bias exclude every id of the vocabulary; one must remain")
    if on_logits is not None and not callable(on_logits):
        raise TypeError(f"on_logits is {on_logits!r:.80}; it must be a function")
    return _steps(
        _next_logits(next_logits, model, use_kv_cache),
        sequences,
        as_generator(rng).spawn(len(sequences)),
        max_new_tokens,
        sampling,
        excluded_ids,
        _check_ids("stop_ids", stop_ids, vocab_size),
        on_logits,
    )


def complete(model: LanguageModel, prompt: Sequence[int], max_new_tokens: int, **options: Any) -> list[int]:
    """The ids that continue one prompt; options as for `generate`."""
    check_model(model)
    prompt = check_prompt("prompt", prompt, model.config.vocab_size)
    steps = generate(model, [prompt], max_new_tokens, **options)
    return [new_id for (new_id,) in steps if new_id is not None]


def check_prompt(name: str, prompt: Sequence[int], vocab_size: int) -> list[int]:
    """The prompt as a list of ids; raises TypeError, ValueError or IndexError unless it is one of at least one id."""
    try:
        ids = np.asarray(_check_sequence(name, prompt, "a sequence of ids (T)"))
    except ValueError:  # lists of different lengths
        raise ValueError(f"{name} has lists in it; it must be a sequence of ids (T)") from None
    if ids.ndim != 1:
        raise ValueError(f"{name} has shape {ids.shape}; it must be (T)")
    if not ids.size:
        raise ValueError(f"{name} is empty; it must have at least one id")
    return as_indices(name, ids, 0, vocab_size).tolist()


def as_list(name: str, values: Any) -> list[Any]:
    """The values as a list; raises TypeError for a single number or text."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"{name} is {values!r}; it must be a list")
    return list(values)


def _steps(logits, sequences, generators, max_new_tokens, sampling, excluded_ids, stop_ids, on_logits):
    stop_ids = set(stop_ids)
    for _ in range(max_new_tokens if sequences else 0):
        rows = logits([sequence.ids for sequence in sequences])
        if on_logits is not None:
            on_logits(rows)
        new_ids: list[int | None] = []
        for sequence, row, rng in zip(sequences, rows, generators):
            if excluded_ids:
                row = exclude_ids(row, excluded_ids)
            new_ids.append(None if sequence.ended else sequence.next_id(sampling, row, rng))
        for sequence, new_id in zip(sequences, new_ids):
            sequence.append(new_id, stop_ids)
        yield new_ids
        if all(sequence.ended for sequence in sequences):
            return


class _Sequence:
    """A prompt and what has been appended to it."""

    def __init__(self, prompt: list[int]) -> None:
        self.ids, self.prompt_length, self.ended = prompt, len(prompt), False
        self.stop_strings: tuple[StopStrings, StreamDecoder] | None = None

    def next_id(self, sampling: Sampling, logits: np.ndarray, rng: np.random.Generator) -> int:
        """Draw the next id of this sequence."""
        return sampling.next_id(logits, self.ids, rng, prompt_length=self.prompt_length)

    def append(self, new_id: int | None, stop_ids: set[int]) -> None:
        """Append an id; an ended sequence, whose id is None, repeats its last id, so that all keep one length."""
        self.ids.append(self.ids[-1] if new_id is None else new_id)
        self.ended |= new_id in stop_ids
        if new_id is not None and self.stop_strings is not None and not self.ended:
            stop, decoder = self.stop_strings
            stop.push(decoder.push(new_id))
            self.ended = stop.found is not None


def _stop_strings(strings, tokenizer, prompt) -> tuple[StopStrings, StreamDecoder] | None:
    """For one sequence its StopStrings, and a decoder that has decoded the prompt; None without stop strings."""
    if tokenizer is not None:
        check_tokenizer(tokenizer)
    if not strings:
        return None
    if tokenizer is None:
        raise ValueError("stop_strings needs the tokenizer; tokenizer is None")
    decoder = StreamDecoder(tokenizer)
    decoder.push(prompt)  # whether a token begins with a space can depend on the token before it
    return StopStrings(strings), decoder


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Raise TypeError unless the ids can be decoded one by one."""
    if not hasattr(tokenizer, "decode_bytes") and not hasattr(tokenizer, "incremental_decoder"):
        raise TypeError(f"tokenizer is {tokenizer!r:.80}; it must have decode_bytes, as a BPETokenizer has")


def _next_logits(next_logits: NextLogits | None, model: LanguageModel, use_kv_cache: bool) -> NextLogits:
    if next_logits is None:
        return NextLogits(model, use_kv_cache)
    check_instance("next_logits", next_logits, NextLogits)
    if next_logits.model is not model:
        raise ValueError("next_logits has the key-value cache of another model; it must be NextLogits(model)")
    return next_logits


def _check_sequence(name: str, value: Any, kind: str) -> Any:
    is_sequence = value.ndim > 0 if isinstance(value, np.ndarray) else isinstance(value, Sequence)
    if isinstance(value, (str, bytes)) or not is_sequence:
        raise TypeError(f"{name} is {value!r}; it must be {kind}")
    return value


def _check_ids(name: str, ids: Iterable[int], vocab_size: int) -> list[int]:
    return as_indices(name, as_list(name, ids), 0, vocab_size).tolist()

"""Generation of text: the ids of `generate`, decoded as they come, up to an end token or a stop string.

prompt → [generate] → ids → [StreamDecoder → StopStrings] → text
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from npllm.generation.autoregressive import as_list, check_prompt, check_tokenizer, generate
from npllm.generation.next_logits import check_model
from npllm.generation.stop_strings import StopStrings
from npllm.models.language_model import LanguageModel
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.streaming import StreamDecoder


class GeneratedToken(NamedTuple):
    """One step of the generation.

    id       the id that was drawn; None in the last step, which has the rest of the text only
    text     what can be printed now: nothing while a character is incomplete or could begin a stop string
    logits   (V), before penalties, temperature and filters; None in the last step
    """

    id: int | None
    text: str
    logits: np.ndarray | None


def generate_tokens(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    excluded_ids: Iterable[int] = (),
    stop_ids: Iterable[int] = (),
    stop_strings: Iterable[str] = (),
    **options: Any,
) -> Iterator[GeneratedToken]:
    """Continue one prompt, and yield each token with its text and the logits from which it was drawn.

    The texts, joined, are the generated text before the first stop string or stop id. An id for which the tokenizer has
    no token is never drawn. Options as for `generate`; the same errors are raised before the first step.
    """
    check_model(model)
    check_tokenizer(tokenizer)
    prompt = check_prompt("prompt", prompt, model.config.vocab_size)
    rows: list[np.ndarray] = []
    stop = StopStrings(stop_strings)
    stop_ids = as_list("stop_ids", stop_ids)
    excluded_ids = [*as_list("excluded_ids", excluded_ids), *ids_without_token(tokenizer, model.config.vocab_size)]
    steps = generate(
        model, [prompt], max_new_tokens,
        excluded_ids=excluded_ids, stop_ids=stop_ids, stop_strings=stop.strings, tokenizer=tokenizer,
        on_logits=rows.append, **options,
    )  # fmt: skip
    decoder = StreamDecoder(tokenizer)
    decoder.push(prompt)  # whether a token begins with a space can depend on the token before it
    return _decode(steps, rows, decoder, stop, stop_ids)


def ids_without_token(tokenizer: Tokenizer, vocab_size: int) -> list[int]:
    """The ids below vocab_size that the tokenizer does not have: those of a padded vocabulary, and gaps."""
    known = tokenizer.token_ids()
    return [token_id for token_id in range(vocab_size) if token_id not in known]


def generate_text(model: LanguageModel, tokenizer: Tokenizer, *arguments: Any, **options: Any) -> Iterator[str]:
    """Continue one prompt, and yield the text of each step, which may be empty. Arguments as for `generate_tokens`."""
    return (token.text for token in generate_tokens(model, tokenizer, *arguments, **options))


def _decode(steps, rows, decoder, stop, stop_ids) -> Iterator[GeneratedToken]:
    for (new_id,) in steps:
        text = "" if new_id in stop_ids else stop.push(decoder.push(new_id))
        yield GeneratedToken(new_id, text, rows.pop()[0] if rows else None)
    yield GeneratedToken(None, stop.push(decoder.finish()) + stop.finish(), None)

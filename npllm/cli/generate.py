"""`npllm generate`: a trained model continues a prompt, token by token as it finds them."""

from pathlib import Path

import numpy as np
from rich.text import Text

from npllm.generation.autoregressive import generate
from npllm.models.presets import from_pretrained
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.streaming import StreamDecoder
from npllm.training.run import CHECKPOINT, RUN, VOCABULARY, load_tokenizer, open_run
from npllm.utils.terminal import printable

WEIGHTS = "model.safetensors"


def load_model(folder):
    """(model, tokenizer) of a folder: one that npllm train has written, or weights in Hugging Face's layout.

    A run that is not at its end gives the model of its last checkpoint. Raises FileNotFoundError or ValueError.
    """
    folder = Path(folder)
    if (folder / RUN).is_file() and ((folder / CHECKPOINT).is_file() or not (folder / WEIGHTS).is_file()):
        run = open_run(folder)
        return run.model, run.tokenizer
    model = from_pretrained(folder)
    if (folder / VOCABULARY).is_file():
        return model, load_tokenizer(folder / VOCABULARY)
    tokenizer = GPT2Tokenizer.load()
    if model.config.vocab_size < tokenizer.vocab_size:
        raise ValueError(
            f"{folder} has no {VOCABULARY}, and its model has {model.config.vocab_size} ids, fewer than GPT-2's "
            f"{tokenizer.vocab_size}"
        )
    return model, tokenizer


def generate_and_show(console, folder, prompt, max_new_tokens, seed=None, **options):
    """Print the prompt and, as it comes, what the model adds to it; `options` as for generation.generate.

    Raises ValueError for an empty prompt or one that the tokenizer cannot encode.
    """
    if seed is not None and seed < 0:
        raise ValueError(f"seed is {seed}; it must be at least 0")
    model, tokenizer = load_model(folder)
    try:
        ids = tokenizer.encode(prompt)
    except KeyError as error:
        raise ValueError(f"the prompt cannot be encoded: {error.args[0]}") from None
    end = getattr(tokenizer, "special_tokens", {}).get("<|endoftext|>")
    rng = np.random.default_rng(seed)
    spell = _speller(tokenizer)
    steps = generate(model, [ids], max_new_tokens, stop_ids=() if end is None else (end,), rng=rng, **options)
    console.print(Text(printable(prompt), style="bold"), end="", soft_wrap=True)
    for (new_id,) in steps:
        if new_id != end:
            console.print(Text(printable(spell([new_id]))), end="", soft_wrap=True)
    console.print()


def _speller(tokenizer):
    """Ids to text, piece by piece: a character whose bytes come in several tokens appears with the last of them."""
    if isinstance(tokenizer, CharacterTokenizer):
        return tokenizer.decode
    return StreamDecoder(tokenizer).push

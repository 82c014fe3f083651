"""`npllm generate`: a trained model continues a prompt, token by token as it finds them."""

import argparse
from pathlib import Path

import numpy as np
from rich.text import Text

from npllm.cli.options import integer_from, number_from, refuse
from npllm.generation.autoregressive import generate
from npllm.models.presets import from_pretrained
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.streaming import StreamDecoder
from npllm.training.run import CHECKPOINT, RUN, VOCABULARY, load_tokenizer, open_run
from npllm.utils.terminal import printable

WEIGHTS = "model.safetensors"


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("generate", help="continue a prompt with a trained model")
    command.add_argument("--model", metavar="FOLDER", required=True, help="a run of npllm train, or a model folder")
    command.add_argument("--prompt", metavar="TEXT", default="\n", help="text to continue (default: a line break)")
    command.add_argument("--max-new-tokens", metavar="N", type=integer_from(0), default=200, help="tokens to add")
    command.add_argument(
        "--temperature", metavar="X", type=number_from(0.0), default=0.8,
        help="divides the logits; 0 always takes the most probable token",
    )  # fmt: skip
    command.add_argument("--top-k", metavar="K", type=integer_from(1), help="sample from the K most probable tokens")
    command.add_argument(
        "--top-p", metavar="P", type=number_from(0.0),
        help="sample from the fewest tokens whose probabilities add up to P",
    )  # fmt: skip
    command.add_argument(
        "--repetition-penalty", metavar="X", type=number_from(0.0), default=1.0,
        help="above 1, tokens that already occur become less probable",
    )  # fmt: skip
    command.add_argument("--seed", metavar="N", type=integer_from(0), help="the same seed gives the same text")
    command.set_defaults(run=run)


def run(console, options: argparse.Namespace) -> None:
    """Print the prompt and its continuation."""
    if options.temperature == 0.0:
        refuse(options, ("top_k", "top_p", "seed"), "has no effect with --temperature 0")
    generate_and_show(
        console, options.model, options.prompt, options.max_new_tokens, options.seed, temperature=options.temperature,
        top_k=options.top_k, top_p=options.top_p, repetition_penalty=options.repetition_penalty,
    )  # fmt: skip


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

"""`npllm generate`: continue a prompt with a trained model, and print each token as soon as it is sampled."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from npllm.cli.options import add_threads_option, integer_from, number_from, refuse, try_threads, use_threads
from npllm.generation.autoregressive import generate
from npllm.models.presets import from_pretrained
from npllm.tokenizers import load_tokenizer
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.streaming import StreamDecoder
from npllm.training.run import open_trained
from npllm.training.run_config import RUN
from npllm.training.run_tokenizer import VOCABULARY
from npllm.utils.terminal import printable


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
    add_threads_option(command, default=None)
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """Print the prompt and its continuation."""
    if options.temperature == 0.0:
        refuse(options, ("top_k", "top_p", "seed"), "has no effect with --temperature 0")
    if not Path(options.model).is_dir():
        raise ValueError(f"--model is {options.model!r}; it must be a folder with a run or a model")
    model, tokenizer = load_model(options.model)
    ids = encode_prompt(tokenizer, options.prompt)
    num_threads, times = options.threads, ""
    if num_threads is None:
        one_id = np.array([ids[:1]])
        num_threads, times = try_threads(lambda: model(one_id))
    with use_threads(Console(stderr=True), num_threads, times):
        generate_and_show(
            console, model, tokenizer, options.prompt, options.max_new_tokens, options.seed,
            temperature=options.temperature, top_k=options.top_k, top_p=options.top_p,
            repetition_penalty=options.repetition_penalty,
        )  # fmt: skip


def load_model(folder: str | Path) -> tuple[Any, Any]:
    """(model, tokenizer) of a run of `npllm train`, or of a folder with weights in Hugging Face's layout.

    An unfinished run gives the model of its last checkpoint. Weights without a vocabulary.json get GPT-2's tokenizer.
    Raises FileNotFoundError or ValueError for a folder that is neither.
    """
    folder = Path(folder)
    if (folder / RUN).is_file():
        trained = open_trained(folder)
        return trained.model, trained.tokenizer
    model = from_pretrained(folder)
    if (folder / VOCABULARY).is_file():
        return model, load_tokenizer(folder / VOCABULARY)
    tokenizer = GPT2Tokenizer.load()
    if model.config.vocab_size < tokenizer.vocab_size:
        raise ValueError(
            f"{folder} has no {VOCABULARY}, and its model has vocab_size {model.config.vocab_size}, too small for "
            f"GPT-2's tokenizer with {tokenizer.vocab_size} tokens"
        )
    return model, tokenizer


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """The ids of the prompt; raises ValueError if it is empty or the tokenizer cannot encode it."""
    if not prompt:
        raise ValueError("prompt is empty; it must have at least one character")
    try:
        return tokenizer.encode(prompt)
    except KeyError as error:
        raise ValueError(f"prompt is {prompt!r}, which cannot be encoded: {error.args[0]}") from None


def generate_and_show(
    console: Console, model: Any, tokenizer: Any, prompt: str, max_new_tokens: int, seed: int | None = None, **options
) -> None:
    """Print the prompt and each new token as it is sampled, up to <|endoftext|>; `options` as for `generate`."""
    end = getattr(tokenizer, "special_tokens", {}).get("<|endoftext|>")
    stop_ids = () if end is None else (end,)
    ids, rng = encode_prompt(tokenizer, prompt), np.random.default_rng(seed)
    decode = _stream_decoder(tokenizer)
    steps = generate(model, [ids], max_new_tokens, stop_ids=stop_ids, rng=rng, **options)
    console.print(Text(printable(prompt), style="bold"), end="", soft_wrap=True)
    for (new_id,) in steps:
        if new_id is not None and new_id != end:
            console.print(Text(printable(decode([new_id]))), end="", soft_wrap=True)
    console.print()


def _stream_decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    """A function that decodes ids as they come: bytes of an incomplete character wait for the following ids."""
    if isinstance(tokenizer, CharacterTokenizer):
        return tokenizer.decode
    return StreamDecoder(tokenizer).push

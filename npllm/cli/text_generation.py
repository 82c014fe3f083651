"""Common to `npllm generate` and `npllm chat`: the options, the model, and how generated tokens are printed."""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from npllm.cli.options import add_threads_option, integer_from, number_from, refuse, vocabulary_path
from npllm.generation.one_block import move_into_one_block
from npllm.generation.text import GeneratedToken
from npllm.layers.softmax import softmax
from npllm.models.pretrained import Pretrained, open_pretrained
from npllm.training.run import open_trained
from npllm.training.run_config import RUN
from npllm.utils.terminal import printable, readable_tokens, visible

TOKEN_WIDTH = 13  # columns of the terminal for a token in --show-candidates


def add_generation_options(command: argparse.ArgumentParser, max_new_tokens: int, temperature: float) -> None:
    """Add the options of sampling, --stop, --show-candidates, --seed and --threads."""
    command.add_argument(
        "--max-new-tokens", metavar="N", type=integer_from(0), default=max_new_tokens, help="generate at most N tokens"
    )
    command.add_argument(
        "--temperature", metavar="X", type=number_from(0.0), default=temperature,
        help="divides the logits; 0 always takes the most probable token",
    )  # fmt: skip
    command.add_argument("--top-k", metavar="K", type=integer_from(1), help="sample from the K most probable tokens")
    command.add_argument(
        "--top-p", metavar="P", type=number_from(0.0),
        help="sample from the fewest tokens whose probabilities add up to P",
    )  # fmt: skip
    command.add_argument(
        "--min-p", metavar="P", type=number_from(0.0),
        help="sample from the tokens with at least P times the largest probability",
    )  # fmt: skip
    command.add_argument(
        "--repetition-penalty", metavar="X", type=number_from(0.0), default=1.0,
        help="above 1, tokens of the prompt and of the generated text become less probable",
    )  # fmt: skip
    command.add_argument(
        "--frequency-penalty", metavar="X", type=_number, default=0.0,
        help="subtract X from the logit of a token for each time that it was generated",
    )  # fmt: skip
    command.add_argument(
        "--presence-penalty", metavar="X", type=_number, default=0.0,
        help="subtract X from the logits of all tokens that were generated",
    )  # fmt: skip
    command.add_argument(
        "--logit-bias", metavar="ID=X", type=_logit_bias, action="append", default=[],
        help="add X to the logit of a token; -inf excludes it; can be given several times",
    )  # fmt: skip
    command.add_argument(
        "--stop", metavar="TEXT", action="append", default=[],
        help="end before this text; can be given several times",
    )  # fmt: skip
    command.add_argument(
        "--show-candidates", metavar="N", type=integer_from(1), nargs="?", const=5,
        help="print for each token the N most probable ones and their probabilities (without a number: 5)",
    )  # fmt: skip
    command.add_argument("--seed", metavar="N", type=integer_from(0), help="the same seed gives the same text")
    command.add_argument(
        "--vocabulary", metavar="PATH", type=vocabulary_path,
        help="a file or folder with the tokenizer, or gpt2, for a model that comes without one",
    )  # fmt: skip
    command.add_argument(
        "--best", action="store_true", help="of a run of npllm train: the weights with the lowest validation loss"
    )
    add_threads_option(command, default=None)


def generation_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `npllm.generation.generate`; refuses those that have no effect."""
    if options.temperature == 0.0:
        refuse(options, ("top_k", "top_p", "min_p", "seed"), "has no effect with --temperature 0")
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
    return {
        **{name: getattr(options, name) for name in names},
        "logit_bias": dict(options.logit_bias),
        "stop_strings": options.stop,
        "rng": np.random.default_rng(options.seed),
    }


def open_model(name_or_path: str, vocabulary: str | None = None, best: bool = False) -> Pretrained:
    """A published model, or the model of a run of `npllm train`: that of its last checkpoint, or its best.

    Its weights lie in one block of memory, which is read faster. Raises FileNotFoundError or ValueError that says what
    is missing, and how to get it.
    """
    if vocabulary is None and (Path(name_or_path) / RUN).is_file():
        pretrained = open_trained(name_or_path, best=best)
    elif best:
        raise ValueError(f"{name_or_path} is opened as a published model; --best belongs to a run of npllm train")
    else:
        pretrained = open_pretrained(name_or_path, vocabulary=vocabulary)
    move_into_one_block(pretrained.model)
    return pretrained


def stop_ids_of(pretrained: Pretrained) -> set[int]:
    """The end tokens that the model has."""
    return {token_id for token_id in pretrained.stop_ids if 0 <= token_id < pretrained.model.config.vocab_size}


class Timer:
    """Counts tokens and seconds: of the prompt up to the first generated token, and of the tokens after it.

    Iterate over `timed(tokens)` instead of `tokens`.
    """

    def __init__(self) -> None:
        self.num_tokens = 0
        self.started = self.first = self.last = time.perf_counter()

    def timed(self, tokens: Iterator[GeneratedToken]) -> Iterator[GeneratedToken]:
        """The same tokens."""
        for token in tokens:
            if token.id is not None:
                self.last = time.perf_counter()
                self.num_tokens += 1
                self.first = self.last if self.num_tokens == 1 else self.first
            yield token

    def report(self, num_prompt_tokens: int) -> str:
        """As "prompt: 12 tokens, 80.3 tokens/s; generated: 40 tokens, 12.9 tokens/s"."""
        prompt = _rate(num_prompt_tokens, num_prompt_tokens, self.first - self.started)
        return f"prompt: {prompt}; generated: {_rate(self.num_tokens, self.num_tokens - 1, self.last - self.first)}"


def show_tokens(console: Console, tokens: Iterator[GeneratedToken]) -> None:
    """Print the text of the tokens as it comes."""
    for token in tokens:
        if token.text:
            console.print(Text(printable(token.text)), end="", soft_wrap=True)
            console.file.flush()


def show_candidates(console: Console, tokens: Iterator[GeneratedToken], tokenizer: Any, number: int) -> str:
    """Print for each token a line with its probability and the most probable tokens; return the text.

    The probabilities are the model's own, softmax(logits), before penalties, temperature and filters.
    """
    text = ""
    console.print(Text(f"{'drawn':<{TOKEN_WIDTH}} p(drawn) │ most probable tokens", style="bold"), soft_wrap=True)
    for token in tokens:
        text += token.text
        if token.id is not None and token.logits is not None:
            console.print(_candidates_line(token.id, token.logits, tokenizer, number), soft_wrap=True)
            console.file.flush()
    return text


def _candidates_line(token_id: int, logits: np.ndarray, tokenizer: Any, number: int) -> Text:
    probabilities = softmax(logits.astype(np.float64))
    best = np.argsort(-probabilities, kind="stable")[:number].tolist()
    line = Text.assemble((_token_text(tokenizer, token_id), "bold"), (f" {probabilities[token_id]:8.1%} │", "dim"))
    for candidate in best:
        line.append(f" {_token_text(tokenizer, candidate)}", style="bold green" if candidate == token_id else "")
        line.append(f" {probabilities[candidate]:6.1%} ", style="dim")
    return line


def _token_text(tokenizer: Any, token_id: int) -> str:
    """A token in a fixed number of columns."""
    text = visible(readable_tokens(tokenizer, [token_id])[0])
    text = text if cell_len(text) <= TOKEN_WIDTH else set_cell_size(text, TOKEN_WIDTH - 1) + "…"
    return set_cell_size(text, TOKEN_WIDTH)


def _rate(num_tokens: int, num_timed: int, seconds: float) -> str:
    unit = "token" if num_tokens == 1 else "tokens"
    return f"{num_tokens} {unit}" + (f", {num_timed / seconds:.1f} tokens/s" if num_timed > 0 and seconds > 0 else "")


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"it is {value}; it must be finite")
    return value


def _logit_bias(text: str) -> tuple[int, float]:
    token_id, _, bias = text.partition("=")
    try:
        entry = int(token_id), float(bias)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not ID=X, such as 198=-100") from None
    if entry[0] < 0 or not entry[1] < math.inf:
        raise argparse.ArgumentTypeError(f"it is {text}; ID must be at least 0 and X a number below inf")
    return entry

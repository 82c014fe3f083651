"""`npllm train`: train a language model, in a folder from which the run can be resumed at any time.

[text → tokenizer → ids | token file] → windows → batches → training → checkpoints → model
random weights | --init-from: the weights of a published model or of another run
"""

import argparse
import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from npllm.batching.token_file import open_token_file, read_header
from npllm.cli.options import (
    VOCABULARY_HELP,
    UsageError,
    add_seed_option,
    add_text_options,
    add_threads_option,
    check_output_folder,
    integer_from,
    number_from,
    read_text,
    refuse,
    try_threads,
    use_threads,
    vocabulary_path,
)
from npllm.cli.training_progress import train_and_show
from npllm.models.gpt import GPTConfig
from npllm.models.presets import ARCHITECTURES, architecture
from npllm.models.pretrained import Pretrained, open_pretrained
from npllm.tokenizers import load_tokenizer
from npllm.tokenizers.bpe_training import train_bpe
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.training.run import Run, create_run, open_run, open_trained
from npllm.training.run_config import RUN
from npllm.training.step import accumulate_gradients
from npllm.training.trainer import Trainer, TrainingConfig
from npllm.utils.allocator import keep_freed_memory

WITH_RESUME = {"out", "checkpoint_interval", "threads", "num_steps", "previous"}  # options that go with --resume
OF_THE_MODEL = {"architecture", "num_layers", "num_heads", "d_model", "tokenizer", "vocab_size"}
FINE_TUNING = {  # defaults with --init-from
    "learning_rate": 5e-5, "context_length": 256, "batch_size": 4, "num_steps": 200, "warmup_steps": 20,
    "eval_interval": 50, "eval_batches": 8,
}  # fmt: skip


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("train", help="train a language model; a run can be resumed at any time")
    positive = integer_from(1)
    add = command.add_argument
    add("--out", metavar="FOLDER", required=True, help="the folder of the run")
    add("--resume", action="store_true", help="resume the run in FOLDER; with --num-steps, change its number of steps")
    add("--previous", action="store_true", help="with --resume: from the checkpoint before the last one")
    data = add_text_options(command, "to train on")
    data.add_argument("--tokens", metavar="FILE", help="a token file of `npllm bpe encode` to train on")
    add(
        "--init-from", metavar="MODEL",
        help="fine-tune this model: a name of `npllm models`, a folder, a GGUF file, or a run",
    )  # fmt: skip
    add("--vocabulary", metavar="PATH", type=vocabulary_path, help=f"the tokenizer: {VOCABULARY_HELP}")
    add("--tokenizer", choices=("characters", "bpe", "gpt2"), default="characters", help="kind of tokens")
    add("--vocab-size", metavar="N", type=integer_from(256), default=512, help="tokens to learn with --tokenizer bpe")
    add("--architecture", metavar="NAME", choices=tuple(ARCHITECTURES), default="gpt", help=", ".join(ARCHITECTURES))
    add("--num-layers", metavar="N", type=positive, default=4, help="transformer blocks")
    add("--num-heads", metavar="N", type=positive, default=4, help="attention heads")
    add("--d-model", metavar="N", type=positive, default=128, help="channels of the residual stream")
    add(
        "--context-length", metavar="N", type=positive, default=64,
        help=f"positions in a window{_default('context_length', 64)}",
    )  # fmt: skip
    add("--dropout", metavar="P", type=number_from(0.0), default=0.0, help="probability that an activation is zeroed")
    add(
        "--num-steps", "--steps", metavar="N", type=positive, default=2000,
        help=f"training steps; with --resume, the new number in all{_default('num_steps', 2000)}",
    )  # fmt: skip
    add(
        "--batch-size", metavar="N", type=positive, default=12,
        help=f"windows in a batch{_default('batch_size', 12)}",
    )  # fmt: skip
    add("--grad-accum-steps", metavar="N", type=positive, default=1, help="micro-batches in a batch, to save memory")
    add(
        "--recompute", action="store_true",
        help="less memory for more time, with the same result: the forward of each block is repeated in the backward; "
        "it is recorded, and can be added with --resume",
    )  # fmt: skip
    add(
        "--learning-rate", metavar="X", type=number_from(0.0), default=3e-3,
        help=f"the highest; it decays to a tenth{_default('learning_rate', 3e-3)}",
    )  # fmt: skip
    add(
        "--warmup-steps", metavar="N", type=integer_from(0), default=100,
        help=f"steps of linear warm-up{_default('warmup_steps', 100)}",
    )  # fmt: skip
    add(
        "--eval-interval", metavar="N", type=positive, default=250,
        help=f"steps between two evaluations{_default('eval_interval', 250)}",
    )  # fmt: skip
    add(
        "--eval-batches", metavar="N", type=positive, default=50,
        help=f"batches of an evaluation{_default('eval_batches', 50)}",
    )  # fmt: skip
    add("--checkpoint-interval", metavar="N", type=positive, default=250, help="steps between two checkpoints")
    add(
        "--keep-freed-memory", action="store_true",
        help="glibc keeps freed memory for the next arrays, which can save time; the result is the same",
    )  # fmt: skip
    add_seed_option(command)
    add_threads_option(command, default=None)
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> int:
    """Train a new run or resume one; return the exit status, 0 or 128 + the number of a signal."""
    if options.keep_freed_memory:
        console.print(keep_freed_memory(), highlight=False, soft_wrap=True)
    if options.resume:
        refuse(options, options.given - WITH_RESUME, "has no effect with --resume, which continues the run as it began")
        training_run, about = open_run(options.out, previous=options.previous), ""
        if "num_steps" in options.given:
            training_run.set_num_steps(options.num_steps)
        if options.recompute:
            training_run.set_recompute(True)
    else:
        if options.previous:
            raise UsageError("--previous has an effect with --resume only")
        _check_combinations(options)
        training_run, about = _create_run(options)
    recorded = training_run.num_threads or options.threads or 1
    num_threads = options.threads or recorded
    if num_threads != recorded:
        about = f"; the run began with {recorded}, so results may differ from an uninterrupted run in the last bits"
    with use_threads(console, num_threads, about):
        return train_and_show(console, training_run, options.checkpoint_interval)


def _check_combinations(options: argparse.Namespace) -> None:
    """Raise UsageError for options that contradict each other; set the defaults of fine-tuning."""
    if options.init_from is not None:
        refuse(options, OF_THE_MODEL, "has no effect with --init-from, whose model has its own")
        vars(options).update({name: value for name, value in FINE_TUNING.items() if name not in options.given})
    elif options.vocabulary is not None:
        refuse(options, {"tokenizer", "vocab_size"}, "has no effect with --vocabulary, which is the tokenizer")
    elif options.tokenizer != "bpe":
        refuse(options, {"vocab_size"}, f"has no effect with --tokenizer {options.tokenizer}")
    has_tokenizer = options.init_from or options.vocabulary or options.tokenizer == "gpt2"
    if options.tokens is not None and not has_tokenizer:
        raise UsageError(
            "--tokens needs --vocabulary, the tokenizer of the ids (--tokenizer gpt2 if they were encoded without one)"
        )


def _create_run(options: argparse.Namespace) -> tuple[Run, str]:
    """A new run, and the times of the trial that chose its number of threads."""
    check_output_folder("--out", options.out)
    if (Path(options.out) / RUN).exists():
        raise FileExistsError(f"--out is {options.out}, which has a run; add --resume, or choose another folder")
    text = read_text(options) if options.tokens is None else ""
    pretrained = None if options.init_from is None else _open_model(options)
    tokenizer = _tokenizer(options, text) if pretrained is None else pretrained.tokenizer
    data = text if options.tokens is None else _open_tokens(options.tokens, tokenizer.vocab_size)
    model_config = _model_config(options, tokenizer.vocab_size, pretrained)
    training_config = TrainingConfig(
        num_steps=options.num_steps, batch_size=options.batch_size, grad_accum_steps=options.grad_accum_steps,
        learning_rate=options.learning_rate, min_learning_rate=options.learning_rate / 10,
        warmup_steps=options.warmup_steps, eval_interval=options.eval_interval, eval_batches=options.eval_batches,
        seed=options.seed, recompute=options.recompute,
    )  # fmt: skip
    times = ""

    def choose_threads(trainer: Trainer) -> int:
        nonlocal times
        num_threads, times = try_threads(_trial_step(trainer))
        trainer.optimizer.zero_grad()
        return num_threads

    try:
        created = create_run(
            options.out, data, tokenizer, model_config, training_config,
            num_threads=choose_threads if options.threads is None else options.threads,
            context_length=options.context_length, pretrained=pretrained, tokenizer_path=options.vocabulary,
        )  # fmt: skip
    except KeyError as error:  # a character that the tokenizer does not have
        raise ValueError(f"the text cannot be encoded: {error.args[0]}") from None
    return created, times


def _open_model(options: argparse.Namespace) -> Pretrained:
    """The model of --init-from, with the tokenizer of --vocabulary if one is given."""
    if not (Path(options.init_from) / RUN).is_file():
        try:
            return open_pretrained(options.init_from, vocabulary=options.vocabulary)
        except FileNotFoundError as error:
            raise FileNotFoundError(re.sub("^model is ", "--init-from is ", str(error))) from None
    refuse(options, {"vocabulary"}, "has no effect with a run as --init-from, which has its tokenizer")
    return open_trained(options.init_from)


def _tokenizer(options: argparse.Namespace, text: str) -> Any:
    if options.vocabulary is not None:
        return load_tokenizer(options.vocabulary)
    if options.tokenizer == "gpt2":
        return GPT2Tokenizer.load()
    return train_bpe(text, options.vocab_size) if options.tokenizer == "bpe" else CharacterTokenizer.from_text(text)


def _open_tokens(path: str, vocab_size: int) -> np.ndarray:
    """The ids of a token file; raises ValueError unless it is intact and its vocabulary is the tokenizer's."""
    header = read_header(path)
    if header.vocab_size != vocab_size:
        raise ValueError(
            f"{path} has ids of a vocabulary of size {header.vocab_size}; the tokenizer has vocabulary size "
            f"{vocab_size}: give --vocabulary the one that the file was encoded with"
        )
    return open_token_file(path)


def _model_config(options: argparse.Namespace, vocab_size: int, pretrained: Pretrained | None) -> Any:
    if pretrained is None:
        return architecture(
            options.architecture, vocab_size, options.context_length, options.d_model, options.num_layers,
            options.num_heads, options.dropout,
        )  # fmt: skip
    config = pretrained.model.config
    if "context_length" not in options.given:
        options.context_length = min(options.context_length, config.context_length)
    if options.context_length > config.context_length:
        raise ValueError(
            f"context_length is {options.context_length}; it must be at most {config.context_length}, the model's"
        )
    if "dropout" not in options.given:
        return config
    p = options.dropout
    if isinstance(config, GPTConfig):
        return replace(config, embedding_dropout=p, attention_dropout=p, residual_dropout=p)
    return replace(config, dropout=p)


def _trial_step(trainer: Trainer) -> Callable[[], None]:
    """A function that computes the loss and the gradients of one micro-batch as the training does, without the update.

    Its dropout masks come from a copy of the trainer's generator; it leaves gradients in the model.
    """
    batch_size = -(-trainer.config.batch_size // trainer.config.grad_accum_steps)
    inputs, targets = trainer.batches.dataset[np.arange(batch_size)]
    options = trainer.loss_options() | {"rng": copy.deepcopy(trainer.dropout_rng)}

    def step():
        trainer.optimizer.zero_grad()
        accumulate_gradients(trainer.model, [(1.0, (inputs, targets))], **options)

    return step


def _default(name: str, value: float) -> str:
    """The end of a help text: both defaults of an option."""
    return f" (default: {value:g}, with --init-from {FINE_TUNING[name]:g})"

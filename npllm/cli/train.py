"""`npllm train`: a GPT learns a text, in a folder from which it can go on at any time.

Each function prints to the rich Console that it is given.
"""

import argparse
import signal
from contextlib import contextmanager

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from npllm.cli.options import (
    INSTALL_MATPLOTLIB,
    add_seed_option,
    add_text_options,
    has_matplotlib,
    integer_from,
    number_from,
    read_text,
    refuse,
)
from npllm.generation.autoregressive import complete
from npllm.inspect.cost import count_training_bytes
from npllm.models.decoder_config import choices
from npllm.models.gpt import GPTConfig
from npllm.models.presets import ARCHITECTURES, architecture
from npllm.tokenizers.bpe import train_bpe
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.training.log import StepLog
from npllm.training.run import Run, create_run, open_run
from npllm.training.trainer import TrainingConfig, evaluate
from npllm.utils.markdown import markdown_table, replace_section
from npllm.utils.terminal import printable

LOG, PLOT = "log.jsonl", "loss.png"
SAMPLE_LENGTH = 120  # tokens


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("train", help="train a GPT on a text; a run can be resumed at any time")
    positive = integer_from(1)
    add = command.add_argument
    add("--out", metavar="FOLDER", required=True, help="the folder of the run")
    add("--resume", action="store_true", help="resume the run in FOLDER")
    add_text_options(command, "to learn from")
    add("--tokenizer", choices=("characters", "bpe", "gpt2"), default="characters", help="kind of tokens")
    add("--vocab-size", metavar="N", type=integer_from(256), default=512, help="tokens to learn with --tokenizer bpe")
    add("--architecture", metavar="NAME", choices=tuple(ARCHITECTURES), default="gpt", help=", ".join(ARCHITECTURES))
    add("--num-layers", metavar="N", type=positive, default=4, help="transformer blocks")
    add("--num-heads", metavar="N", type=positive, default=4, help="attention heads")
    add("--d-model", metavar="N", type=positive, default=128, help="channels of the residual stream")
    add("--context-length", metavar="N", type=positive, default=64, help="positions in a window")
    add("--dropout", metavar="P", type=number_from(0.0), default=0.0, help="probability that an activation is zeroed")
    add("--steps", metavar="N", type=positive, default=2000, help="training steps")
    add("--batch-size", metavar="N", type=positive, default=12, help="windows in a batch")
    add("--grad-accum-steps", metavar="N", type=positive, default=1, help="micro-batches in a batch, to save memory")
    add("--learning-rate", metavar="X", type=number_from(0.0), default=3e-3, help="the highest; it decays to a tenth")
    add("--warmup-steps", metavar="N", type=integer_from(0), default=100, help="steps of linear warm-up")
    add("--eval-interval", metavar="N", type=positive, default=250, help="steps between two evaluations")
    add("--checkpoint-interval", metavar="N", type=positive, default=250, help="steps between two checkpoints")
    add_seed_option(command)
    command.set_defaults(run=run)


def run(console, options: argparse.Namespace) -> int:
    """Train, or resume a run."""
    if options.resume:
        refuse(options, tuple(sorted(options.given - {"out", "checkpoint_interval"})), "cannot be changed by --resume")
    if options.tokenizer != "bpe":
        refuse(options, ("vocab_size",), f"has no effect with --tokenizer {options.tokenizer}")
    run = open_run(options.out) if options.resume else _create_run(options)
    return train_and_show(console, run, options.checkpoint_interval)


def _create_run(options: argparse.Namespace) -> Run:
    text = read_text(options)
    if options.tokenizer == "gpt2":
        tokenizer = GPT2Tokenizer.load()
    elif options.tokenizer == "bpe":
        tokenizer = train_bpe(text, options.vocab_size)
    else:
        tokenizer = CharacterTokenizer.from_text(text)
    config = architecture(
        options.architecture, tokenizer.vocab_size, options.context_length, options.d_model, options.num_layers,
        options.num_heads, options.dropout,
    )  # fmt: skip
    settings = TrainingConfig(
        num_steps=options.steps, batch_size=options.batch_size, grad_accum_steps=options.grad_accum_steps,
        learning_rate=options.learning_rate, min_learning_rate=options.learning_rate / 10,
        warmup_steps=options.warmup_steps, eval_interval=options.eval_interval, seed=options.seed,
    )  # fmt: skip
    return create_run(options.out, text, tokenizer, config, settings)


def train_and_show(console, run, checkpoint_interval=250, readme=None):
    """Train a Run to its end, or to Ctrl-C; return the exit status, 0 or 130.

    Shows the loss, the learning rate and tokens a second; at each evaluation a line and a sample. Writes a
    checkpoint every `checkpoint_interval` steps and at the end, a log with one JSON object for each step, and a
    plot of the losses.
    `readme` names a file in which the section "training" is replaced by what came out.
    """
    trainer = run.trainer
    log = StepLog(run.folder / LOG, trainer.steps_done)
    _introduce(console, run)
    with _interruption() as interrupted, _bar(console, trainer) as (bar, task):

        def note(_, report):
            speed = report.tokens / report.seconds
            record = {
                "step": report.step, "loss": report.loss, "learning_rate": report.learning_rate,
                "grad_norm": report.grad_norm, "tokens_per_second": round(speed),
            }  # fmt: skip
            if report.validation_loss is not None:
                record["validation_loss"] = report.validation_loss
                record["sample"] = sample_text(run)
                _show_evaluation(console, record, report.perplexity)
            log.add(record)
            status = f"loss {log.recent_loss():.3f}  rate {report.learning_rate:.1e}  {speed:,.0f} tokens/s"
            bar.update(task, completed=trainer.steps_done, status=status)
            if trainer.steps_done % checkpoint_interval == 0:
                run.save()

        trainer.run([note], interrupted)
    run.save()
    _draw_losses(console, run, log.records)
    if trainer.steps_done < trainer.config.num_steps:
        console.print(
            Text(f"interrupted after step {trainer.steps_done}; --resume goes on from there: {run.folder}"),
            soft_wrap=True,
        )
        return 130
    run.save_model()
    loss = evaluate(run.model, trainer.validation, trainer.config.batch_size)
    perplexity = np.exp(min(loss, 700.0))
    console.print(f"loss on the whole validation text {loss:.4f}  perplexity {perplexity:.2f}", highlight=False)
    console.print(Text(f"the model is in {run.folder}"), soft_wrap=True)
    if readme is not None:
        replace_section(readme, "training", training_report(run, log.records, loss))
    return 0


def _draw_losses(console, run, records):
    """Draw the losses into the run's folder, or say what to install."""
    if not has_matplotlib():
        console.print(Text(f"{PLOT} is not drawn, it needs matplotlib: {INSTALL_MATPLOTLIB}"), soft_wrap=True)
        return
    from npllm.utils.plots import save_loss_curve

    save_loss_curve(run.folder / PLOT, records, run.model.config.vocab_size)


def training_report(run, records, final_loss):
    """The curve of a finished run and a sample, in Markdown."""
    settings = run.trainer.config
    seen = [record for record in records if "validation_loss" in record]
    lines = [[f"{r['step']:,}", f"{r['loss']:.3f}", f"{r['validation_loss']:.3f}"] for r in seen]
    lines.append([f"{settings.num_steps:,}", "", f"**{final_loss:.3f}**, the whole of it"])
    seconds = sum(settings.batch_size * run.model.config.context_length / r["tokens_per_second"] for r in records)
    about = (
        f"{_about(run)}; batches of {settings.batch_size}, learning rate {settings.learning_rate:g} after "
        f"{settings.warmup_steps} steps of warm-up, then a cosine to {settings.min_learning_rate:g}; "
        f"{seconds / 60:.1f} minutes of training."
    )
    sample = "\n".join(f"    {line}".rstrip() for line in printable(sample_text(run, 400)).split("\n"))
    return (
        f"{about}\n\n{markdown_table(['step', 'loss', 'on text never seen'], lines)}\n\nIt then writes:\n\n{sample}\n"
    )


def sample_text(run, num_tokens=SAMPLE_LENGTH):
    """A continuation of a line break, or of the first token, drawn from a generator of its own."""
    tokenizer = run.tokenizer
    try:
        prompt = tokenizer.encode("\n")
    except KeyError:
        prompt = [0]
    rng = np.random.default_rng(run.trainer.steps_done)
    return tokenizer.decode(complete(run.model, prompt, num_tokens, temperature=0.8, rng=rng))


def _introduce(console, run):
    trainer, config, memory = run.trainer, run.model.config, ""
    if isinstance(config, GPTConfig):
        at_once = trainer.config.batch_size // trainer.config.grad_accum_steps
        needed = count_training_bytes(config, at_once, config.context_length)["total"]
        memory = f"; about {needed / 2**20:,.0f} MiB"
    console.print(f"{_about(run)}{memory}", highlight=False)
    if trainer.steps_done:
        console.print(f"goes on after step {trainer.steps_done:,}", highlight=False)


def _about(run):
    """The shape of the model, and how much it learns from."""
    config = run.model.config
    return (
        f"{run.model.num_parameters():,} parameters: {config.num_layers} layers, {_heads(config)} heads, "
        f"{config.d_model} channels, context {config.context_length}, vocabulary {config.vocab_size:,}; "
        f"{len(run.trainer.batches.dataset.ids):,} tokens to learn from"
    )


def _heads(config):
    """How many attention heads a layer has; of a decoder, the first layer."""
    return config.num_heads if isinstance(config, GPTConfig) else choices(config.attention)[0]["num_heads"]


def _show_evaluation(console, record, perplexity):
    console.print(
        f"step {record['step']:,}  loss {record['loss']:.4f}  validation loss {record['validation_loss']:.4f}  "
        f"perplexity {perplexity:.2f}  {record['tokens_per_second']:,} tokens/s",
        highlight=False,
    )
    console.print(Text(printable(record["sample"]), style="dim"))


@contextmanager
def _bar(console, trainer):
    columns = (TextColumn("{task.fields[status]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task("", total=trainer.config.num_steps, completed=trainer.steps_done, status="")


@contextmanager
def _interruption():
    """A function that says whether Ctrl-C was pressed; the step under way is finished. A second one stops at once."""
    pressed = False

    def press(*_):
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)

"""`npllm train`: a GPT learns a text, in a folder from which it can go on at any time.

Each function prints to the rich Console that it is given.
"""

import signal
from contextlib import contextmanager

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from npllm.generation.autoregressive import complete
from npllm.inspect.cost import count_training_bytes
from npllm.lessons.figures import draw_losses
from npllm.models.decoder_config import choices
from npllm.models.gpt import GPTConfig
from npllm.training.log import StepLog
from npllm.training.trainer import evaluate
from npllm.utils.markdown import markdown_table, replace_section
from npllm.utils.terminal import printable

LOG, PLOT = "log.jsonl", "loss.png"
SAMPLE_LENGTH = 120  # tokens


def train_and_show(console, run, checkpoint_every=250, readme=None):
    """Train a Run to its end, or to Ctrl-C; return the exit status, 0 or 130.

    Shows the loss, the learning rate and tokens a second; at each evaluation a line and a sample. Writes a checkpoint
    every `checkpoint_every` steps and at the end, a log with one JSON object for each step, and a plot of the losses.
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
                "gradient_norm": report.gradient_norm, "tokens_per_second": round(speed),
            }  # fmt: skip
            if report.validation_loss is not None:
                record["validation_loss"] = report.validation_loss
                record["sample"] = sample_text(run)
                _show_evaluation(console, record, report.perplexity)
            log.add(record)
            status = f"loss {log.recent_loss():.3f}  rate {report.learning_rate:.1e}  {speed:,.0f} tokens/s"
            bar.update(task, completed=trainer.steps_done, status=status)
            if trainer.steps_done % checkpoint_every == 0:
                run.save()

        trainer.run([note], interrupted)
    run.save()
    draw_losses(run.folder / PLOT, log.records, trainer.model.config.vocab_size)
    if trainer.steps_done < trainer.settings.num_steps:
        console.print(
            Text(f"interrupted after step {trainer.steps_done}; --resume goes on from there: {run.folder}"),
            soft_wrap=True,
        )
        return 130
    run.save_model()
    loss = evaluate(run.model, trainer.validation, trainer.settings.batch_size)
    perplexity = np.exp(min(loss, 700.0))
    console.print(f"loss on the whole validation text {loss:.4f}  perplexity {perplexity:.2f}", highlight=False)
    console.print(Text(f"the model is in {run.folder}"), soft_wrap=True)
    if readme is not None:
        replace_section(readme, "training", training_section(run, log.records, loss))
    return 0


def training_section(run, records, final_loss):
    """The curve of a finished run and a sample, in Markdown."""
    settings = run.trainer.settings
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
        at_once = trainer.settings.batch_size // trainer.settings.grad_accum_steps
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
        yield bar, bar.add_task("", total=trainer.settings.num_steps, completed=trainer.steps_done, status="")


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

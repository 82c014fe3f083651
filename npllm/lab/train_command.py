"""`npllm train`: a GPT learns a text, in a folder from which it can go on at any time.

Each function prints to the rich Console that it is given.
"""

import signal
import time
from contextlib import contextmanager

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from npllm.generation import complete
from npllm.lab.display import printable
from npllm.lab.figures import draw_losses
from npllm.models.accounting import count_training_bytes
from npllm.training.log import StepLog
from npllm.training.trainer import evaluate

LOG, PLOT = "log.jsonl", "loss.png"
SAMPLE_LENGTH = 120  # tokens


def train_and_show(console, run, checkpoint_every=250):
    """Train a Run to its end, or to Ctrl-C; return the exit status, 0 or 130.

    Shows the loss, the learning rate and tokens a second; at each evaluation a line and a sample. Writes a checkpoint
    every `checkpoint_every` steps and at the end, a log with one JSON object for each step, and a plot of the losses.
    """
    trainer = run.trainer
    log = StepLog(run.folder / LOG, trainer.steps_done)
    _introduce(console, run)
    with _interruption() as interrupted, _bar(console, trainer) as (bar, task):
        started = time.perf_counter()

        def note(_, report):
            nonlocal started
            now = time.perf_counter()
            speed, started = report.tokens / (now - started), now
            record = {
                "step": report.step, "loss": report.loss, "learning_rate": report.learning_rate,
                "gradient_norm": report.gradient_norm, "tokens_per_second": round(speed),
            }  # fmt: skip
            if report.validation_loss is not None:
                record["validation_loss"] = report.validation_loss
                record["sample"] = sample_text(run)
                _show_evaluation(console, record, report.perplexity)
            log.add(record)
            bar.update(
                task, completed=trainer.steps_done, loss=log.recent_loss(), rate=report.learning_rate, speed=speed
            )
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
    return 0


def sample_text(run):
    """A continuation of a line break, or of the first token, drawn from a generator of its own."""
    tokenizer = run.tokenizer
    try:
        prompt = tokenizer.encode("\n")
    except KeyError:
        prompt = [0]
    rng = np.random.default_rng(run.trainer.steps_done)
    return tokenizer.decode(complete(run.model, prompt, SAMPLE_LENGTH, temperature=0.8, rng=rng))


def _introduce(console, run):
    trainer, config = run.trainer, run.model.config
    memory = count_training_bytes(
        config, trainer.settings.batch_size // trainer.settings.micro_batches, config.context_length
    )
    console.print(
        f"{run.model.num_parameters():,} parameters: {config.num_layers} layers, {config.num_heads} heads, "
        f"{config.d_model} channels, context {config.context_length}, vocabulary {config.vocab_size:,}; "
        f"{len(trainer.batches.dataset.ids):,} tokens to learn from; about {memory['total'] / 2**20:,.0f} MiB",
        highlight=False,
    )
    if trainer.steps_done:
        console.print(f"goes on after step {trainer.steps_done:,}", highlight=False)


def _show_evaluation(console, record, perplexity):
    console.print(
        f"step {record['step']:,}  loss {record['loss']:.4f}  validation loss {record['validation_loss']:.4f}  "
        f"perplexity {perplexity:.2f}  {record['tokens_per_second']:,} tokens/s",
        highlight=False,
    )
    console.print(Text(printable(record["sample"]), style="dim"))


@contextmanager
def _bar(console, trainer):
    columns = (
        TextColumn("loss {task.fields[loss]:.3f}  rate {task.fields[rate]:.1e}  {task.fields[speed]:,.0f} tokens/s"),
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task("", total=trainer.settings.num_steps, completed=trainer.steps_done, loss=np.nan,
                                rate=0.0, speed=0.0)  # fmt: skip


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

"""What `npllm train` shows and writes while it trains: progress, evaluations, samples, the log, the loss curve."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from npllm.cli.options import INSTALL_MATPLOTLIB, has_matplotlib
from npllm.generation.autoregressive import complete
from npllm.generation.text import ids_without_token
from npllm.inspect.cost import count_training_bytes
from npllm.models.gpt import GPTConfig
from npllm.training.log import StepLog
from npllm.training.run import BEST, Run
from npllm.training.trainer import StepMetrics, Trainer, evaluate
from npllm.utils.markdown import markdown_table
from npllm.utils.signals import TerminationSignal, defer_signals, describe_interruption
from npllm.utils.terminal import printable

LOG, PLOT = "log.jsonl", "loss.png"
SAMPLE_LENGTH, REPORT_LENGTH = 120, 400  # tokens of the samples during training and in the report


def train_and_show(console: Console, training_run: Run, checkpoint_interval: int = 250) -> int:
    """Train a Run to its end, or to a signal; return the exit status, 0 or 128 + the signal's number.

    Prints loss, learning rate and tokens per second, and at each evaluation the validation loss and a sample. Writes a
    checkpoint every `checkpoint_interval` steps and at the end, the weights with the lowest validation loss, a log with
    one JSON object for each step, and a plot of the loss curve. After a signal (Ctrl-C, SIGTERM, SIGHUP) the step is
    completed and a checkpoint written; after a second one, neither.
    """
    trainer = training_run.trainer
    log = StepLog(training_run.folder / LOG, trainer.steps_done)
    if log.problem:
        console.print(Text(printable(log.problem)), soft_wrap=True)
    _introduce(console, training_run)
    with defer_signals() as received, _bar(console, trainer) as (bar, task):

        def after_step(_, metrics: StepMetrics) -> None:
            log.add(_record(training_run, metrics))
            if trainer.steps_done % checkpoint_interval == 0:
                training_run.save()
            try:
                _show_step(console, bar, task, log, metrics)
            except OSError:  # of standard output; the step is complete
                training_run.save()
                raise

        trainer.run([after_step], lambda: received() is not None, training_run.save_best)
        training_run.save()
    number = received()
    if number is not None:
        status = f"{describe_interruption(number)} after step {trainer.steps_done}; continue with"
        console.print(Text(f"{status}: npllm train --out {training_run.folder} --resume"), soft_wrap=True)
    _draw_loss_curve(console, training_run, log)
    if number is not None:
        return 128 + number
    _save_results(console, training_run)
    return 0


def _show_step(console: Console, bar: Progress, task: TaskID, log: StepLog, metrics: StepMetrics) -> None:
    """Print an evaluation; update the progress bar."""
    if metrics.validation_loss is not None:
        _show_evaluation(console, log.records[-1])
    speed = f"{metrics.tokens / metrics.seconds:,.0f} tokens/s"
    status = f"loss {log.recent_loss():.3f}  learning rate {metrics.learning_rate:.1e}  {speed}"
    bar.update(task, completed=metrics.step + 1, status=status)


def _save_results(console: Console, training_run: Run) -> None:
    """Write the finished model for transformers; print its loss on the whole validation text, and the best one."""
    trainer = training_run.trainer
    validation_loss = trainer.evaluate()
    if validation_loss is not None:
        training_run.save_best(validation_loss)
    problem = training_run.save_model()
    loss = math.nan
    try:
        with console.status("loss on the whole validation text (the model is saved; Ctrl-C skips this)"):
            loss = evaluate(training_run.model, trainer.validation, trainer.config.batch_size)
        shown = f"loss on the whole validation text {loss:.4f}  perplexity {_perplexity(loss):.2f}"
        console.print(shown, highlight=False)
    except TerminationSignal:
        raise
    except KeyboardInterrupt:
        pass
    step, best_loss = training_run.best or (trainer.steps_done, loss)
    if step < trainer.steps_done:
        console.print(f"lowest validation loss {best_loss:.4f} after step {step:,}: {BEST}", highlight=False)
    console.print(Text(f"the model is in {training_run.folder}"), soft_wrap=True)
    if problem:
        console.print(Text(f"its tokenizer was not written for transformers: {problem}"), soft_wrap=True)


def _record(training_run: Run, metrics: StepMetrics) -> dict[str, Any]:
    """The log record of a step; at an evaluation with validation loss and sample."""
    record: dict[str, Any] = {
        "step": metrics.step, "loss": metrics.loss, "learning_rate": metrics.learning_rate,
        "grad_norm": metrics.grad_norm, "tokens_per_second": max(round(metrics.tokens / metrics.seconds), 1),
    }  # fmt: skip
    if metrics.validation_loss is not None:
        record |= {"validation_loss": metrics.validation_loss, "sample": sample_text(training_run)}
    return record


def _draw_loss_curve(console: Console, training_run: Run, log: StepLog) -> None:
    """Draw the loss curve into the run's folder, or print what to install."""
    if not has_matplotlib():
        console.print(Text(f"{PLOT} is not drawn, it needs matplotlib: {INSTALL_MATPLOTLIB}"), soft_wrap=True)
        return
    from npllm.utils.plots import save_loss_curve

    save_loss_curve(training_run.folder / PLOT, log.records, training_run.model.config.vocab_size)


def training_report(training_run: Run) -> str:
    """Configuration, losses and a sample of a finished run, in Markdown."""
    config, log = training_run.trainer.config, StepLog(training_run.folder / LOG, training_run.trainer.steps_done)
    evaluated = [record for record in log.records if "validation_loss" in record]
    lines = [[f"{r['step']:,}", f"{r['loss']:.3f}", f"{r['validation_loss']:.3f}"] for r in evaluated]
    loss = evaluate(training_run.model, training_run.trainer.validation, config.batch_size)
    lines.append([f"{config.num_steps:,}", "", f"**{loss:.3f}** (whole validation text)"])
    tokens = config.batch_size * training_run.config.window_length
    minutes = sum(tokens / record["tokens_per_second"] for record in log.records) / 60
    about = (
        f"{_about(training_run)}; batches of {config.batch_size}; learning rate {config.learning_rate:g} after "
        f"{config.warmup_steps} warm-up steps, with cosine decay to {config.min_learning_rate:g}; "
        f"{minutes:.1f} minutes of training."
    )
    table = markdown_table(["step", "training loss", "validation loss"], lines)
    sample = printable(sample_text(training_run, REPORT_LENGTH)).split("\n")
    return f"{about}\n\n{table}\n\nA sample:\n\n" + "".join(f"    {line}".rstrip() + "\n" for line in sample)


def sample_text(training_run: Run, max_new_tokens: int = SAMPLE_LENGTH) -> str:
    """A continuation of a line break, up to an end token; the step is the seed.

    A tokenizer without a line break begins with id 0.
    """
    tokenizer = training_run.tokenizer
    try:
        prompt = tokenizer.encode("\n")
    except KeyError:
        prompt = [0]
    rng = np.random.default_rng(training_run.trainer.steps_done)
    stop_ids, model = training_run.config.tokens.stop_ids, training_run.model
    excluded_ids = ids_without_token(tokenizer, model.config.vocab_size)
    ids = complete(
        model, prompt, max_new_tokens, temperature=0.8, stop_ids=stop_ids, excluded_ids=excluded_ids, rng=rng
    )  # fmt: skip
    return tokenizer.decode(ids)


def _introduce(console: Console, training_run: Run) -> None:
    trainer, config, memory = training_run.trainer, training_run.model.config, ""
    if isinstance(config, GPTConfig):
        micro_batch_size = -(-trainer.config.batch_size // trainer.config.grad_accum_steps)
        length, recompute = training_run.config.window_length, trainer.config.recompute
        num_bytes = count_training_bytes(config, micro_batch_size, length, recompute=recompute)["total"]
        memory = f"; about {num_bytes / 2**20:,.0f} MiB of memory"
    console.print(f"{_about(training_run)}{memory}", highlight=False)
    if trainer.steps_done:
        console.print(f"resumed after step {trainer.steps_done:,}", highlight=False)


def _about(training_run: Run) -> str:
    """The sizes of the model and of its training text."""
    config = training_run.model.config
    return (
        f"{training_run.model.num_parameters():,} parameters: {config.num_layers} layers, {_num_heads(config)} heads, "
        f"d_model {config.d_model}, context length {training_run.config.window_length}, "
        f"vocabulary {config.vocab_size:,}; {len(training_run.trainer.batches.dataset.ids):,} training tokens"
    )


def _num_heads(config: Any) -> int:
    """The number of attention heads in the first layer."""
    return config.num_heads if isinstance(config, GPTConfig) else config.attention_of(0).num_heads


def _show_evaluation(console: Console, record: dict[str, Any]) -> None:
    loss = record["validation_loss"]
    console.print(
        f"step {record['step']:,}  loss {record['loss']:.4f}  validation loss {loss:.4f}  "
        f"perplexity {_perplexity(loss):.2f}  {record['tokens_per_second']:,} tokens/s",
        highlight=False,
    )
    console.print(Text(printable(record["sample"]), style="dim"))


def _perplexity(loss: float) -> float:
    """exp(loss), finite for a loss of any size."""
    return math.exp(min(loss, 700.0))


@contextmanager
def _bar(console: Console, trainer: Trainer) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.fields[status]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task("", total=trainer.config.num_steps, completed=trainer.steps_done, status="")

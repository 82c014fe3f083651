"""Sections 14 to 16 of the tour: training and generation (chapters 4 and 5 of the book)."""

import math

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from npllm.batching.dataset import WindowDataset
from npllm.generation.autoregressive import complete
from npllm.lessons.bigram import BigramLanguageModel, train
from npllm.lessons.tour.state import TourState
from npllm.models.gpt import GPT, GPTConfig
from npllm.training.optimizers import AdamW
from npllm.training.trainer import Trainer, TrainingConfig
from npllm.utils.terminal import printable

BATCH_SIZE = 16
D_MODEL = 64
NUM_HEADS = 4
NUM_LAYERS = 2
MAX_BIGRAM_STEPS = 100
NUM_ROWS = 8  # of the table of losses
MAX_NEW_TOKENS = 60


def bigram_model(state: TourState, number: int) -> None:
    """The embeddings of a bigram model are trained."""
    vocab_size = state.tokenizer.vocab_size
    model = BigramLanguageModel(vocab_size, D_MODEL, rng=state.rng)
    before = model.wte.weight.data.copy()
    num_steps = min(MAX_BIGRAM_STEPS, state.num_steps)
    optimizer = AdamW(model.named_parameters(), 1e-2, weight_decay=0.0)
    losses = list(train(model, optimizer, state.loader, num_steps))
    distance = np.linalg.norm(model.wte.weight.data - before, axis=1)
    occurs = np.isin(np.arange(vocab_size), state.ids)
    state.section(
        number,
        "training embeddings",
        f"ids (B, T) → vectors (B, T, C) → logits (B, T, V): {model.num_parameters():,} parameters, {num_steps} steps",
        "A bigram model predicts the next token from the current token alone. The gradient of the loss moves the "
        "embedding row of each token in the batch; rows of tokens that never occur do not change.",
    )
    state.console.print(
        f"loss {losses[0]:.2f} → {losses[-1]:.2f}; {int(occurs.sum())} rows of tokens that occur moved by "
        f"{distance[occurs].mean():.2f} on average, the other {int((~occurs).sum())} rows by at most "
        f"{distance[~occurs].max(initial=0.0):.2f}",
        highlight=False,
    )


def gpt(state: TourState, number: int) -> None:
    """A GPT is trained."""
    vocab_size, context_length = state.tokenizer.vocab_size, state.dataset.max_length
    state.model = GPT(GPTConfig(vocab_size, context_length, D_MODEL, NUM_LAYERS, NUM_HEADS), rng=state.rng)
    state.section(
        number,
        "training a GPT",
        f"ids (B, T) → {NUM_LAYERS} blocks → logits (B, T, V) → loss: {state.model.num_parameters():,} parameters, "
        f"{state.num_steps} steps",
        "A block is attention followed by a feed-forward network, each with a normalization before it and a residual "
        "connection around it. A GPT is embeddings, blocks, a normalization and a linear layer. Each step computes the "
        f"loss, its gradient and an AdamW update. A model that guesses uniformly has loss ln {vocab_size} = "
        f"{math.log(vocab_size):.2f}.",
    )
    windows = WindowDataset(state.ids, context_length, 1)
    config = TrainingConfig(
        state.num_steps, min(BATCH_SIZE, len(windows)), learning_rate=5e-3, min_learning_rate=5e-4, seed=state.seed
    )
    state.losses = _train_with_progress(state, Trainer(state.model, windows, config=config))
    table = Table("step", show_edge=False)
    table.add_column("loss", justify="right")
    for step in np.unique(np.linspace(0, len(state.losses) - 1, NUM_ROWS).astype(int)):
        table.add_row(f"{step:,}", f"{state.losses[step]:.3f}")
    state.console.print(table)


def generation(state: TourState, number: int) -> None:
    """The GPT continues the prompt."""
    prompt = state.tokenizer.encode(state.prompt, disallowed_special=())
    state.section(
        number,
        "generation",
        f"{len(prompt)} ids → logits of the last position → one more id, {MAX_NEW_TOKENS} times",
        "Softmax of the last position's logits gives the probability of each token. One token is sampled and appended, "
        "and the model is applied again. This model was trained on one short text many times, so it repeats parts of "
        "it word for word.",
    )
    new_ids = complete(state.model, prompt, MAX_NEW_TOKENS, temperature=0.5, rng=state.rng)
    state.continuation = state.tokenizer.decode(new_ids)
    state.console.print(Text.assemble((printable(state.prompt), "bold"), printable(state.continuation)))


def _train_with_progress(state: TourState, trainer: Trainer) -> list[float]:
    """Train to the end, with a progress bar that shows the loss; return the losses."""
    columns = (TextColumn("{task.fields[status]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    losses: list[float] = []
    with Progress(*columns, console=state.console, disable=not state.console.is_terminal) as bar:
        task = bar.add_task("", total=state.num_steps, status="")

        def report_step(_, report):
            losses.append(report.loss)
            bar.update(task, advance=1, status=f"loss {np.mean(losses[-20:]):.3f}")

        trainer.run([report_step])
    return losses


SECTIONS = [bigram_model, gpt, generation]

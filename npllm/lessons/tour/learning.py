"""The tour's end: a model learns to predict the next token, and continues the prompt."""

import math

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from npllm.batching.dataset import WindowDataset
from npllm.generation.autoregressive import complete
from npllm.lessons.bigram import BigramLanguageModel, train
from npllm.models.gpt import GPT, GPTConfig
from npllm.training.optimizers import AdamW
from npllm.training.trainer import Trainer, TrainingConfig
from npllm.utils.terminal import printable, station

BATCH_SIZE = 16
CHANNELS = 64
NUM_HEADS = 4
NUM_LAYERS = 2
SHOWN = 8  # rows of the loss table where nothing moves on the screen
NEW_TOKENS = 60


def embeddings_learn(walk, number):
    """The table of embeddings moves so that the loss falls."""
    tokenizer, loader = walk.found["tokenizer"], walk.found["loader"]
    model = BigramLanguageModel(tokenizer.vocab_size, CHANNELS, rng=walk.rng)
    start = model.wte.weight.data.copy()
    steps = min(100, walk.steps)
    losses = list(train(model, AdamW(model.named_parameters(), 1e-2, weight_decay=0.0), loader, steps))
    moved = np.linalg.norm(model.wte.weight.data - start, axis=1)
    seen = np.isin(np.arange(tokenizer.vocab_size), walk.found["ids"])
    station(
        walk.console,
        number,
        "embeddings learn",
        f"ids (B, T) → vectors (B, T, C) → logits (B, T, V): {model.num_parameters():,} parameters, {steps} steps",
        "Embeddings begin as random numbers. Guess the next token from the present one alone; the gradient of the loss "
        "says for every row that was used which way to move. Rows of tokens that never occur stay where they are.",
    )
    rest = moved[~seen].max(initial=0.0)
    walk.console.print(
        f"loss {losses[0]:.2f} → {losses[-1]:.2f}; {int(seen.sum())} rows of tokens that occur moved by "
        f"{moved[seen].mean():.2f} on average, the other {int((~seen).sum())} by {rest:.2f} at most",
        highlight=False,
    )


def gpt_learns(walk, number):
    """A whole GPT learns, before the eyes."""
    tokenizer, length = walk.found["tokenizer"], walk.found["context_length"]
    config = GPTConfig(tokenizer.vocab_size, length, CHANNELS, NUM_LAYERS, NUM_HEADS)
    model = GPT(config, rng=walk.rng)
    station(
        walk.console,
        number,
        "a GPT learns",
        f"ids (B, T) → {NUM_LAYERS} blocks → logits (B, T, V) → loss: {model.num_parameters():,} parameters, "
        f"{walk.steps} steps",
        "Attention and a feed-forward network make a block; blocks in a row, with embeddings before and a norm after "
        "them, make a GPT. Forward gives the loss, backward the gradient of each parameter, AdamW a small step. Who "
        f"knows nothing pays ln {tokenizer.vocab_size} = {math.log(tokenizer.vocab_size):.2f}.",
    )
    windows = WindowDataset(walk.found["ids"], length, 1)
    config = TrainingConfig(
        walk.steps, min(BATCH_SIZE, len(windows)), learning_rate=5e-3, min_learning_rate=5e-4, seed=walk.seed
    )
    losses = _with_progress(walk, Trainer(model, windows, config=config))
    walk.found |= {"model": model, "losses": losses}
    table = Table("step", show_edge=False)
    table.add_column("loss", justify="right")
    for step in np.unique(np.linspace(0, len(losses) - 1, SHOWN).astype(int)):
        table.add_row(f"{step:,}", f"{losses[step]:.3f}")
    walk.console.print(table)


def speak(walk, number):
    """The model continues the prompt."""
    tokenizer, model = walk.found["tokenizer"], walk.found["model"]
    prompt = tokenizer.encode(walk.prompt, disallowed_special=())
    station(
        walk.console,
        number,
        "words that follow",
        f"{len(prompt)} ids → logits of the last position → one id more, {NEW_TOKENS} times",
        "Ask the model for the next token, draw one from its probabilities, append it, ask again. It has read "
        "nothing but this text, over and over: some of it comes back by heart, and the rest is in its manner.",
    )
    text = tokenizer.decode(complete(model, prompt, NEW_TOKENS, temperature=0.5, rng=walk.rng))
    walk.found["continuation"] = text
    walk.console.print(Text.assemble((printable(walk.prompt), "bold"), printable(text)))


def _with_progress(walk, trainer):
    """Run through the steps with a bar that shows the loss; return the losses."""
    columns = (TextColumn("{task.fields[status]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    losses = []
    with Progress(*columns, console=walk.console, disable=not walk.console.is_terminal) as bar:
        task = bar.add_task("", total=walk.steps, status="")

        def note(_, report):
            losses.append(report.loss)
            bar.update(task, advance=1, status=f"loss {np.mean(losses[-20:]):.3f}")

        trainer.run([note])
    return losses


STATIONS = [embeddings_learn, gpt_learns, speak]

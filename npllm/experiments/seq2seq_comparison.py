"""Train Seq2Seq models on a task and evaluate them on new examples, with and without attention.

task → [training] → model → [greedy decoding of new examples] → accuracy by length, alignments
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npllm.before_transformers.seq2seq import Seq2Seq
from npllm.experiments.sequence_tasks import EOS_ID, TASKS, Batch, Task, train_seq2seq, translate
from npllm.utils.markdown import markdown_table

EMBEDDING_DIM, HIDDEN_SIZE = 16, 48
NUM_VALIDATION = 500
MAX_COLUMNS = 8  # of an alignment that is printed
CAPTION = "Each row has the attention weights of one generated token over the source tokens."

Alignment = tuple[np.ndarray, list[str], list[str]]  # weights (T, S), T generated tokens, S source tokens


@dataclass(frozen=True)
class TrainedSeq2Seq:
    """A trained model and what it generates for validation examples."""

    task: Task
    model: Seq2Seq
    losses: list[float]  # of every training step
    seconds: float  # of the training
    batch: Batch  # the validation examples
    generated: np.ndarray  # ids (B, T)
    correct: np.ndarray  # (B), True where the whole sequence is correct

    @property
    def accuracy(self) -> float:
        """The fraction of validation examples that are generated without an error."""
        return float(self.correct.mean())

    def accuracy_by_length(self) -> dict[int, tuple[int, float]]:
        """For every number of target tokens (EOS not counted): how many examples, and the fraction that is correct."""
        lengths = (self.batch.targets >= 0).sum(axis=-1) - 1
        chosen = {int(length): self.correct[lengths == length] for length in np.unique(lengths)}
        return {length: (correct.size, float(correct.mean())) for length, correct in chosen.items()}

    def example(self, index: int) -> tuple[list[str], list[str], list[str]]:
        """The tokens of a validation example: source, generated, and target."""
        source = [self.task.source_tokens[i] for i in self.batch.source[index][self.batch.mask[index]]]
        return source, self.task.decode(self.generated[index]), self.task.decode(self.batch.targets[index])

    def alignment(self, index: int) -> Alignment:
        """The attention weights of a validation example, for its generated tokens and EOS."""
        source = self.batch.source[index][self.batch.mask[index]]
        tokens = self.task.decode(self.generated[index])
        ids = np.array([*self.generated[index, : len(tokens)], EOS_ID])
        inputs = np.array([self.batch.inputs[index, 0], *ids[:-1]])
        generated = [self.task.target_tokens[i] for i in ids]
        return self.model.alignment(source, inputs), generated, [self.task.source_tokens[i] for i in source]

    def longest_alignment(self) -> Alignment | None:
        """The alignment of the longest correct example with at most MAX_COLUMNS source tokens, or None."""
        lengths = np.where(self.correct, self.batch.mask.sum(axis=-1), 0)
        lengths = np.where(lengths <= MAX_COLUMNS, lengths, 0)
        return self.alignment(int(lengths.argmax())) if lengths.any() else None


def build_seq2seq(task: Task, attention: str, cell: str, rng: np.random.Generator) -> Seq2Seq:
    """The small model of this experiment, for the vocabularies of a task."""
    num_source, num_target = len(task.source_tokens), len(task.target_tokens)
    return Seq2Seq(num_source, num_target, EMBEDDING_DIM, HIDDEN_SIZE, attention, cell, rng=rng)


def train_and_evaluate(
    task_name: str,
    attention: str,
    cell: str = "gru",
    num_steps: int = 600,
    seed: int = 0,
    report: Callable[[list[float]], None] = lambda losses: None,
) -> TrainedSeq2Seq:
    """Train a model on a task of TASKS and let it generate NUM_VALIDATION new examples.

    `report` is called with the losses so far after every step.
    """
    task, rng = TASKS[task_name](), np.random.default_rng(seed)
    model = build_seq2seq(task, attention, cell, rng)
    losses: list[float] = []
    started = time.perf_counter()
    for loss in train_seq2seq(model, task, num_steps, rng=rng):
        losses.append(loss)
        report(losses)
    seconds = time.perf_counter() - started
    batch = task.batch(NUM_VALIDATION, rng=np.random.default_rng([seed, 1]))  # other random numbers than in training
    return TrainedSeq2Seq(task, model, losses, seconds, batch, *translate(model, batch))


def comparison_markdown(
    task_name: str = "reverse", attention: str = "general", cell: str = "gru", num_steps: int = 600, seed: int = 0
) -> str:
    """Train with and without attention; the accuracies by length and one alignment, as tables in Markdown."""
    trained = train_and_evaluate(task_name, attention, cell, num_steps, seed)
    without = train_and_evaluate(task_name, "none", cell, num_steps, seed)
    return comparison_table(trained, without, attention)


def comparison_table(trained: TrainedSeq2Seq, without: TrainedSeq2Seq, attention: str) -> str:
    """The results of two trained models, with and without attention, in Markdown."""
    summary = (
        f"{len(trained.losses):,} training steps take {trained.seconds:.0f} seconds with {attention} attention and "
        f"{without.seconds:.0f} without attention. Of {NUM_VALIDATION} validation examples {trained.accuracy:.1%} are "
        f"correct with attention and {without.accuracy:.1%} without."
    )
    others = without.accuracy_by_length()
    rows = [
        [length, number, f"{fraction:.0%}", f"{others[length][1]:.0%}"]
        for length, (number, fraction) in trained.accuracy_by_length().items()
    ]
    header = ["target tokens", "examples", f"correct, {attention} attention", "correct, no attention"]
    parts = [summary, markdown_table(header, rows)]
    alignment = trained.longest_alignment()
    if alignment is not None:
        weights, generated, source = alignment
        lines = [[f"`{token}`", *(f"{weight:.2f}" for weight in row)] for token, row in zip(generated, weights)]
        parts += [CAPTION, markdown_table(["generated", *source], lines)]
    return "\n\n".join(parts)

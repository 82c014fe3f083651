"""Recall: a token in the context says which value a slot has, and the last token asks for the value of one slot.

    noise  b=3  noise  noise  a=7  noise  b?  →  3

An item such as b=3 is one token, so neither order nor pairs of tokens have to be learned: the only difficulty is to
keep the item, or to find it, over the distance to the question. Both the models before transformers and the decoders
learn the task with `train_recall`.

Associative recall: Ba et al. 2016, Using Fast Weights to Attend to the Recent Past, section 4.1; Arora et al. 2023,
Zoology: Measuring and Improving Recall in Efficient Language Models.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.before_transformers.seq2seq import Seq2Seq
from npllm.models import Decoder
from npllm.training import AdamW, training_step

IGNORE_INDEX = -100
Model = Seq2Seq | Decoder


@dataclass(frozen=True)
class RecallTask:
    """Ids: slot · num_values + value for the items, then a question for each slot, then the noise.

    Each slot has one item in the context of `length` tokens; the question follows. The distance of an item is 1 if it
    is the last token of the context.
    """

    num_slots: int
    num_values: int
    length: int
    num_noise: int = 8

    @property
    def vocab_size(self) -> int:
        """Items, questions and noise."""
        return self.num_slots * (self.num_values + 1) + self.num_noise

    def batch(
        self, size: int, rng: np.random.Generator, distance: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The context with the question (B, length + 1), the value (B), and the position of the asked item (B).

        The item is at the distance, and at random distances if it is None.
        """
        first_noise = self.num_slots * (self.num_values + 1)
        ids = rng.integers(first_noise, self.vocab_size, (size, self.length + 1))
        positions = rng.random((size, self.length)).argsort(axis=1)  # those of the slots are the first ones
        if distance is not None:
            asked = self.length - distance
            column = (positions == asked).argmax(axis=1)
            rows = np.arange(size)
            positions[rows, column], positions[:, 0] = positions[:, 0].copy(), asked
        slots = rng.random((size, self.num_slots)).argsort(axis=1)
        values = rng.integers(0, self.num_values, (size, self.num_slots))
        items = slots * self.num_values + values
        np.put_along_axis(ids, positions[:, : self.num_slots], items, axis=1)
        ids[:, -1] = self.num_slots * self.num_values + slots[:, 0]
        return ids, values[:, 0], positions[:, 0]


def model_arguments(task: RecallTask, model: Model, ids: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """What `loss` of the model takes; a Seq2Seq reads the context as its source and the question as its only input."""
    if isinstance(model, Seq2Seq):
        return ids[:, :-1], ids[:, -1:] - task.num_slots * task.num_values, values[:, None]
    targets = np.full_like(ids, IGNORE_INDEX)
    targets[:, -1] = values
    return ids, targets


def train_recall(
    task: RecallTask, model: Model, num_steps: int, rng: np.random.Generator, batch_size: int, learning_rate: float
) -> None:
    """AdamW on new examples at random distances; the learning rate decreases linearly to 0."""
    optimizer = AdamW(model.named_parameters(), learning_rate, weight_decay=0.0)
    for step in range(num_steps):
        optimizer.learning_rate = learning_rate * (1.0 - step / num_steps)
        ids, values, _ = task.batch(batch_size, rng)
        training_step(model, optimizer, *model_arguments(task, model, ids, values), max_grad_norm=1.0)


def recall_accuracy(
    task: RecallTask, model: Any, num_examples: int, rng: np.random.Generator, distance: int | None = None
) -> float:
    """The share of examples whose value has the largest logit among the values."""
    ids, values, _ = task.batch(num_examples, rng, distance)
    logits = model(*model_arguments(task, model, ids, values)[:-1])[:, -1, : task.num_values]
    return float((logits.argmax(axis=-1) == values).mean())


def input_gradient(task: RecallTask, model: Model, num_examples: int, rng: np.random.Generator, distance: int) -> float:
    """The mean norm of the gradient of the loss with respect to the embedding of the asked item.

    The item's token occurs once in its context, so the row of its id in the gradient of the embedding is that of its
    position. Examples are taken one by one.
    """
    norms = []
    for _ in range(num_examples):
        ids, values, positions = task.batch(1, rng, distance)
        model.zero_grad()
        _, cache = model.loss_forward(*model_arguments(task, model, ids, values))
        model.loss_backward(1.0, cache)
        embedding = model.source_embedding if isinstance(model, Seq2Seq) else model.embed_tokens
        gradient = np.asarray(embedding.weight.grad)[ids[0, positions[0]]]
        norms.append(np.linalg.norm(gradient.astype(np.float64)))
    model.zero_grad()
    return float(np.mean(norms))

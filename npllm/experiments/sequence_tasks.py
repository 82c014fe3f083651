"""Small tasks for a model that reads one sequence and writes another, made up on the spot.

    copy        e b d a  →  e b d a
    reverse     e b d a  →  a d b e
    numbers     three hundred five  →  3 0 5

Nobody need collect sentences to see what attention does: where each written token comes from is known beforehand.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npllm.training.optimizers import AdamW
from npllm.training.step import training_step

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
BEGIN, END, NOT_COUNTED = 0, 1, -100


@dataclass(frozen=True)
class Task:
    """What goes in, what should come out, and `draw(rng)`, which makes up one example of it."""

    source_tokens: tuple
    target_tokens: tuple  # the first two are those of BEGIN and END
    draw: Callable

    def batch(self, rng, size):
        """`size` examples as a Batch."""
        return self.encode([self.draw(rng) for _ in range(size)])

    def encode(self, examples):
        """Pairs of token lists as a Batch, the shorter ones filled up."""
        source_ids = {token: index for index, token in enumerate(self.source_tokens)}
        target_ids = {token: index for index, token in enumerate(self.target_tokens)}
        sources = [[source_ids[token] for token in source] for source, _ in examples]
        targets = [[target_ids[token] for token in target] for _, target in examples]
        source, mask = _fill(sources, 0)
        return Batch(
            source,
            _fill([[BEGIN, *target] for target in targets], END)[0],
            _fill([[*target, END] for target in targets], NOT_COUNTED)[0],
            mask,
        )

    def decode(self, ids):
        """The target tokens of a row of ids, up to the first END."""
        ids = list(ids)
        return [self.target_tokens[i] for i in (ids[: ids.index(END)] if END in ids else ids)]


@dataclass(frozen=True)
class Batch:
    """Examples as ids: what is read, where it is real, what the decoder is given, and what it should say."""

    source: np.ndarray  # (B, S)
    inputs: np.ndarray  # (B, T), BEGIN and then the targets
    targets: np.ndarray  # (B, T), the last one END, then NOT_COUNTED
    mask: np.ndarray  # (B, S)


def copy_task(shortest=3, longest=8, num_letters=10):
    """Say it again: a sequence of letters, each drawn by itself."""
    letters = LETTERS[:num_letters]
    return Task(letters, ("<begin>", "<end>", *letters), lambda rng: _twice(_letters(rng, letters, shortest, longest)))


def reverse_task(shortest=3, longest=8, num_letters=10):
    """Say it backwards."""
    letters = LETTERS[:num_letters]

    def draw(rng):
        source = _letters(rng, letters, shortest, longest)
        return source, source[::-1]

    return Task(letters, ("<begin>", "<end>", *letters), draw)


def numbers_task(most_digits=6):
    """Numbers in words to digits. How many digits is drawn first: short numbers are as frequent as long ones."""
    words = (*ONES, *TENS, "hundred", "thousand")

    def draw(rng):
        digits = int(rng.integers(1, most_digits + 1))
        number = int(rng.integers(10 ** (digits - 1) if digits > 1 else 0, 10**digits))
        return spell(number), list(str(number))

    return Task(words, ("<begin>", "<end>", *"0123456789"), draw)


TASKS = {"copy": copy_task, "reverse": reverse_task, "numbers": numbers_task}


def spell(number):
    """A number below a million as English words: 312 is ["three", "hundred", "twelve"]."""
    if not 0 <= number < 1_000_000:
        raise ValueError(f"number is {number}; it must be at least 0 and below 1,000,000")
    thousands, rest = divmod(number, 1000)
    if thousands:
        return [*spell(thousands), "thousand", *(spell(rest) if rest else [])]
    hundreds, rest = divmod(number, 100)
    if hundreds:
        return [ONES[hundreds], "hundred", *(spell(rest) if rest else [])]
    if number < len(ONES):
        return [ONES[number]]
    tens, ones = divmod(number, 10)
    return [TENS[tens - 2], *([ONES[ones]] if ones else [])]


def learn(model, task, num_steps, rng, batch_size=64, learning_rate=5e-3):
    """Yield the loss of each of `num_steps` steps, every one on new examples; the learning rate falls to 0."""
    optimizer = AdamW(model.named_parameters(), learning_rate=learning_rate)
    for step in range(num_steps):
        optimizer.learning_rate = learning_rate * (1.0 - step / num_steps)
        batch = task.batch(rng, batch_size)
        # gradients of a recurrent network may explode over many time steps, so they are clipped
        yield training_step(
            model, optimizer, batch.source, batch.inputs, batch.targets, mask=batch.mask, max_grad_norm=1.0
        ).loss


def write(model, batch):
    """What the model writes from its own tokens, ids (B, T), and which sequences are without a mistake, (B)."""
    written = model.greedy_decode(batch.source, BEGIN, END, batch.targets.shape[-1], mask=batch.mask)
    missing = batch.targets.shape[-1] - written.shape[-1]
    written = np.pad(written, ((0, 0), (0, missing)), constant_values=END)
    return written, ((written == batch.targets) | (batch.targets == NOT_COUNTED)).all(axis=-1)


def accuracy(model, batch):
    """The share of sequences that the model writes without a mistake."""
    return float(write(model, batch)[1].mean())


def _letters(rng, letters, shortest, longest):
    return [letters[i] for i in rng.integers(0, len(letters), rng.integers(shortest, longest + 1))]


def _twice(source):
    return source, list(source)


def _fill(rows, filling):
    """Rows of different lengths as one array, and where it is real."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    array = np.full(mask.shape, filling)
    array[mask] = np.concatenate(rows)
    return array, mask

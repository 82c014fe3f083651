"""Small generated tasks that map one sequence to another, and the training of a Seq2Seq model on them.

    copy        e b d a  →  e b d a
    reverse     e b d a  →  a d b e
    numbers     three hundred five  →  3 0 5

Examples are generated at random, so no corpus is needed; and which source token each target token comes from is known,
so the alignment that a model learns can be checked.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from npllm.before_transformers.seq2seq import Seq2Seq
from npllm.training.optimizers import AdamW
from npllm.training.step import training_step

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
BOS_ID, EOS_ID = 0, 1  # begin and end of a target sequence
IGNORE_INDEX = -100  # of targets at padding

Example = tuple[list[str], list[str]]  # source and target tokens


@dataclass(frozen=True)
class Batch:
    """Examples as ids, padded to equal lengths."""

    source: np.ndarray  # (B, S)
    inputs: np.ndarray  # (B, T), BOS_ID and then the target tokens
    targets: np.ndarray  # (B, T), the target tokens, EOS_ID, then IGNORE_INDEX
    mask: np.ndarray  # (B, S), False where the source is padding


@dataclass(frozen=True)
class Task:
    """The vocabularies of source and target, and `generate(rng)`, which returns a random example."""

    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]  # the first two have the ids BOS_ID and EOS_ID
    generate: Callable[[np.random.Generator], Example]

    def batch(self, size: int, *, rng: np.random.Generator) -> Batch:
        """`size` random examples."""
        return self.encode([self.generate(rng) for _ in range(size)])

    def encode(self, examples: Sequence[Example]) -> Batch:
        """Examples as a padded Batch."""
        source_ids = {token: index for index, token in enumerate(self.source_tokens)}
        target_ids = {token: index for index, token in enumerate(self.target_tokens)}
        sources = [[source_ids[token] for token in source] for source, _ in examples]
        targets = [[target_ids[token] for token in target] for _, target in examples]
        source, mask = _pad(sources, 0)
        return Batch(
            source,
            _pad([[BOS_ID, *target] for target in targets], EOS_ID)[0],
            _pad([[*target, EOS_ID] for target in targets], IGNORE_INDEX)[0],
            mask,
        )

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The target tokens of a row of ids, up to the first EOS_ID."""
        ids = list(ids)
        return [self.target_tokens[i] for i in (ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids)]


def copy_task(min_length: int = 3, max_length: int = 8, num_letters: int = 10) -> Task:
    """The target is the source: a sequence of random letters."""
    return _letters_task(min_length, max_length, num_letters, list)


def reverse_task(min_length: int = 3, max_length: int = 8, num_letters: int = 10) -> Task:
    """The target is the source in reverse order: a sequence of random letters."""
    return _letters_task(min_length, max_length, num_letters, lambda source: source[::-1])


def numbers_task(max_digits: int = 6) -> Task:
    """The source is a number in words, the target its digits. Each number of digits is equally frequent."""
    words = (*ONES, *TENS, "hundred", "thousand")

    def generate(rng: np.random.Generator) -> Example:
        digits = int(rng.integers(1, max_digits + 1))
        number = int(rng.integers(10 ** (digits - 1) if digits > 1 else 0, 10**digits))
        return spell(number), list(str(number))

    return Task(words, ("<bos>", "<eos>", *"0123456789"), generate)


TASKS: dict[str, Callable[[], Task]] = {"copy": copy_task, "reverse": reverse_task, "numbers": numbers_task}


def spell(number: int) -> list[str]:
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


def train_seq2seq(
    model: Seq2Seq,
    task: Task,
    num_steps: int,
    *,
    rng: np.random.Generator,
    batch_size: int = 64,
    learning_rate: float = 5e-3,
) -> Iterator[float]:
    """Yield the loss of each of `num_steps` steps, each on new examples; the learning rate decreases linearly to 0."""
    optimizer = AdamW(model.named_parameters(), learning_rate=learning_rate)
    for step in range(num_steps):
        optimizer.learning_rate = learning_rate * (1.0 - step / num_steps)
        batch = task.batch(batch_size, rng=rng)
        # gradients of a recurrent network may explode over many time steps, so they are clipped
        yield training_step(
            model, optimizer, batch.source, batch.inputs, batch.targets, mask=batch.mask, max_grad_norm=1.0
        ).loss


def translate(model: Seq2Seq, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The ids (B, T) that the model generates, and whether each sequence (B) is correct.

    The model generates from its own tokens; the targets are used for the comparison only.
    """
    max_length = batch.targets.shape[-1]
    generated = model.greedy_decode(batch.source, BOS_ID, EOS_ID, max_length, mask=batch.mask)
    generated = np.pad(generated, ((0, 0), (0, max_length - generated.shape[-1])), constant_values=EOS_ID)
    return generated, ((generated == batch.targets) | (batch.targets == IGNORE_INDEX)).all(axis=-1)


def accuracy(model: Seq2Seq, batch: Batch) -> float:
    """The fraction of sequences that the model generates without an error."""
    return float(translate(model, batch)[1].mean())


def _letters_task(min_length: int, max_length: int, num_letters: int, target_of: Callable) -> Task:
    letters = LETTERS[:num_letters]

    def generate(rng: np.random.Generator) -> Example:
        source = [letters[i] for i in rng.integers(0, num_letters, rng.integers(min_length, max_length + 1))]
        return source, target_of(source)

    return Task(letters, ("<bos>", "<eos>", *letters), generate)


def _pad(rows: list[list[int]], value: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different lengths as one array, and a mask that is False at padding."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    array = np.full(mask.shape, value)
    array[mask] = np.concatenate(rows)
    return array, mask

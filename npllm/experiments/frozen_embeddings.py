"""Experiment 3, second part: word2vec's vectors, frozen, against embeddings trained for the task."""

from dataclasses import dataclass, replace

import numpy as np

from npllm.batching import sliding_windows
from npllm.before_transformers import SkipGram
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.word_contexts import PlantedCorpus
from npllm.experiments.word_vectors import WordCorpus, train_word2vec
from npllm.layers.cross_entropy import cross_entropy
from npllm.models import GPT, GPTConfig
from npllm.training import AdamW, training_step
from npllm.utils import corpora

APART, UNSEEN, NEXT_WORD = "tell twins apart", "label of an unseen twin", "next word"
TABLES = ("word2vec, frozen", "word2vec, trained", "random, frozen", "random, trained")
STD = 0.02  # of all tables before training; GPT-2's initialization


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_steps: int  # of the task
    num_word2vec_steps: int
    num_sentences: int = 6000
    num_pairs: int = 24
    d_model: int = 24
    length: int = 8  # of the windows of the shipped text


@dataclass(frozen=True)
class Task:
    """The corpus for word2vec, and the examples of training and validation      inputs and targets (N, T)"""

    corpus: WordCorpus
    training: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]


def tasks(scale: Scale, rng: np.random.Generator) -> dict[str, Task]:
    """Two tasks on planted twins, which have the same contexts, and the next word of the shipped text.

    Twins 2i and 2i + 1 are told apart by their last bit. The label of pair i is i mod 2; training sees one twin of each
    pair and validation the other, so only the contexts in the corpus tell the label.
    """
    corpus = PlantedCorpus.generate(scale.num_pairs, scale.num_sentences, 1.0, rng).corpus
    words = np.arange(2 * scale.num_pairs)[:, None]
    apart, labels = (words, words % 2), (words, words // 2 % 2)
    text = WordCorpus.from_text(corpora.read("story"), min_count=3)
    held_out = len(text.ids) // 8
    start = int(rng.integers(len(text.ids) - held_out))
    rest = np.delete(text.ids, np.arange(start, start + held_out))
    windows = sliding_windows(rest, scale.length, 1)
    validation = sliding_windows(text.ids[start : start + held_out], scale.length, scale.length)
    return {
        APART: Task(corpus, apart, apart),
        UNSEEN: Task(corpus, (labels[0][::2], labels[1][::2]), (labels[0][1::2], labels[1][1::2])),
        NEXT_WORD: Task(replace(text, ids=rest), windows, validation),
    }


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each task and table of embeddings: the validation loss and accuracy after the same number of steps."""
    result = []
    for task_index, (name, task) in enumerate(tasks(scale, np.random.default_rng(seed)).items()):
        vectors = word_vectors(scale, task.corpus, np.random.default_rng((seed, task_index)))
        for table in TABLES:
            rng = np.random.default_rng((seed, task_index))  # the same weights and batches for every table
            vocab_size, length = len(task.corpus.words), task.training[0].shape[1]
            config = GPTConfig(vocab_size, length, scale.d_model, num_layers=1, num_heads=2, tied=False)
            model = GPT(config, rng=rng)
            if table.startswith("word2vec"):
                model.wte.weight.data[...] = vectors
            train(model, task, scale.num_steps, table.endswith("frozen"), rng)
            inputs, targets = task.validation
            logits = model(inputs)
            accuracy = float((logits.argmax(axis=-1) == targets).mean())
            loss = float(cross_entropy(logits, targets))
            result.append({"task": name, "embeddings": table, "loss": loss, "accuracy": accuracy})
    return result


def word_vectors(scale: Scale, corpus: WordCorpus, rng: np.random.Generator) -> np.ndarray:
    """Skip-gram's vectors of the corpus, multiplied by a factor for the standard deviation of GPT's embeddings."""
    model = SkipGram(len(corpus.words), scale.d_model, rng=rng)
    for _ in train_word2vec(
        model, corpus, scale.num_word2vec_steps, rng=rng, window_size=2, threshold=1.0, batch_size=512
    ):
        pass
    vectors = model.word_vectors.weight.data
    return vectors * (STD / float(vectors.std()))


def train(model: GPT, task: Task, num_steps: int, is_frozen: bool, rng: np.random.Generator) -> None:
    """Train on random batches of 32 examples; a frozen table of embeddings is no parameter of the optimizer."""
    parameters = [(name, p) for name, p in model.named_parameters() if not (is_frozen and name == "wte.weight")]
    optimizer = AdamW(parameters, 3e-3, weight_decay=0.0)
    inputs, targets = task.training
    for _ in range(num_steps):
        chosen = rng.integers(len(inputs), size=32)
        training_step(model, optimizer, inputs[chosen], targets[chosen])
        model.zero_grad()


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    names, better, worse, sentences = results.distinct("task"), [], [], []
    for name in names:
        trained, frozen = ({"task": name, "embeddings": table} for table in ("random, trained", "word2vec, frozen"))
        difference = results.difference("loss", trained, frozen)
        better += [name] * difference.is_below(0)
        worse += [name] * difference.is_above(0)
        both = results.interval("loss", task=name, embeddings="word2vec, trained")
        sentences.append(
            f"{name}: {results.interval('loss', **trained)} trained, {results.interval('loss', **frozen)} frozen, "
            f"{both} word2vec's and then trained"
        )
    because = (
        f"Validation loss in nats at equal steps: {'; '.join(sentences)}. Embeddings trained for the task are better "
        f"in {len(better)} and worse in {len(worse)} of {len(names)} tasks."
    )
    if len(better) == len(names):
        return Verdict("supported", because)
    return Verdict("depends" if better else "not supported", because)


EXPERIMENT = Experiment(
    name="frozen-embeddings",
    claim="Embeddings trained for the task fit it better than word2vec's vectors.",
    question="At equal steps, is the loss lower with trained embeddings than with frozen vectors of word2vec?",
    setting=(
        "A GPT of one layer of 24 channels with an untied head. Its table of embeddings starts at random or from "
        "skip-gram's vectors of the task's corpus, scaled to the same standard deviation, and is trained or frozen; "
        "everything else is equal for the same seed. Tasks: tell two words with the same contexts apart; the label of "
        "a word that only its contexts reveal, as a word with the same contexts has it in the training data; and the "
        "next word of the shipped text, a held-out eighth."
    ),
    measure="Validation loss in nats and accuracy. For telling twins apart the examples are those of training.",
    rule=(
        "Trained embeddings are better in a task if the 95% interval of the paired difference of loss (random start, "
        "trained; minus word2vec, frozen) is below 0. Supported if they are better in every task, not supported if in "
        "none, otherwise it depends on the task."
    ),
    keys=("task", "embeddings"),
    scales={
        "miniature": Scale(2, 4, 4, 300, 4, 8),
        "default": Scale(4, 400, 400),
        "full": Scale(8, 1500, 2500, 20000),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("task", "loss", "embeddings"), Plot("task", "accuracy", "embeddings")),
)

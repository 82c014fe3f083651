"""Experiment 2: a fixed-size state between encoder and decoder, with and without attention."""

from dataclasses import dataclass

import numpy as np

from npllm.before_transformers import Seq2Seq
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.sequence_tasks import accuracy, reverse_task, train_seq2seq
from npllm.experiments.statistics import mean_interval

NUM_LETTERS, EMBEDDING_DIM = 10, 16
ATTENTIONS = ("none", "additive")


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_steps: int
    state_sizes: tuple[int, ...]
    lengths: tuple[int, ...]  # at which the accuracy is measured; training takes all lengths from first to last
    num_examples: int = 300


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each state size, with and without attention: the accuracy at each length."""
    result = []
    for size in scale.state_sizes:
        for attention in ATTENTIONS:
            rng = np.random.default_rng(seed)
            model = Seq2Seq(NUM_LETTERS, NUM_LETTERS + 2, EMBEDDING_DIM, size, attention, "gru", rng=rng)
            task = reverse_task(scale.lengths[0], scale.lengths[-1], NUM_LETTERS)
            for _ in train_seq2seq(model, task, scale.num_steps, rng=rng, batch_size=32, learning_rate=1e-2):
                pass
            for length in scale.lengths:
                batch = reverse_task(length, length, NUM_LETTERS).batch(scale.num_examples, rng=rng)
                result.append(
                    {
                        "attention": attention,
                        "state size": size,
                        "length": length,
                        "accuracy": accuracy(model, batch),
                        "parameters": model.num_parameters(),
                    }
                )
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    (*_, half, large), small = results.distinct("state size"), results.distinct("state size")[0]
    short, long = results.distinct("length")[0], results.distinct("length")[-1]
    none = {"attention": "none", "state size": large, "length": long}
    fall = results.difference("accuracy", none, none | {"length": short})
    gain = mean_interval(_mean_accuracy(results, large) - _mean_accuracy(results, small))
    attends = {"attention": "additive", "state size": half, "length": long}
    advantage = results.difference("accuracy", attends, none)
    parameters = [int(results.values("parameters", **where)[0]) for where in (attends, none)]
    because = (
        f"Without attention and with a state of {large} the accuracy at length {long} minus that at {short} is {fall}; "
        f"a state of {large} instead of {small} adds {gain} to the mean over the lengths. Attention with a state of "
        f"{half} ({parameters[0]:,} parameters) has at length {long} an accuracy of "
        f"{results.interval('accuracy', **attends)}, no attention with a state of {large} ({parameters[1]:,}) "
        f"{results.interval('accuracy', **none)}: {advantage} more."
    )
    if fall.is_below(-0.25) and gain.is_above(0.1) and advantage.is_above(0.25):
        return Verdict("supported", because)
    contradicted = fall.is_above(-0.1) or gain.is_below(0.1) or advantage.is_below(0.1)
    return Verdict("not supported" if contradicted else "depends", because)


def _mean_accuracy(results: Results, size: int) -> np.ndarray:
    """Without attention, over all lengths, for each seed."""
    where = {"attention": "none", "state size": size}
    return np.mean([results.values("accuracy", length=n, **where) for n in results.distinct("length")], axis=0)


EXPERIMENT = Experiment(
    name="seq2seq-bottleneck",
    claim="The fixed-size state of the encoder is the bottleneck of seq2seq; attention removes it.",
    question="How does the accuracy depend on the length of the sequence and the size of the state?",
    setting=(
        "A GRU encoder and decoder, with and without additive attention, learn to reverse sequences of random letters "
        "(10 letters, all lengths equally frequent) in equal steps. Reversing is easier than copying without attention."
    ),
    measure="The share of new sequences that are generated without an error, for each length.",
    rule=(
        "Supported if three intervals are above or below their bounds: without attention and with the largest state, "
        "the accuracy at the largest length minus that at the smallest is below −0.25; without attention, the largest "
        "state has a mean accuracy over all lengths more than 0.1 above that of the smallest; and at the largest "
        "length attention with the second largest state, which has fewer parameters, is more than 0.25 better than no "
        "attention with the largest. Not supported if the first is above −0.1, or one of the others below 0.1; "
        "otherwise it depends."
    ),
    keys=("attention", "state size", "length"),
    scales={
        "miniature": Scale(2, 3, (4, 8), (2, 3), num_examples=20),
        "default": Scale(3, 400, (16, 32, 64), (2, 4, 6, 8, 10)),
        "full": Scale(5, 1000, (16, 32, 64, 128), (2, 4, 6, 8, 10, 12, 14)),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("length", "accuracy", "attention"),),
)

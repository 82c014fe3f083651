from npllm.experiments.experiment import Results
from npllm.experiments.seq2seq_bottleneck import ATTENTIONS, EXPERIMENT, Scale, rows


def outcome_of(accuracy):
    """Of made-up results with the accuracy (attention, size, length)."""
    made_up = [
        {
            "seed": seed,
            "attention": attention,
            "state size": size,
            "length": length,
            "accuracy": accuracy(attention == "additive", size, length) + 0.01 * seed,
            "parameters": 100 * size,
        }
        for seed in range(3)
        for attention in ATTENTIONS
        for size in (16, 32, 64)
        for length in (2, 10)
    ]
    return EXPERIMENT.judge(Results(EXPERIMENT.keys, made_up)).outcome


def test_outcomes():
    def bottleneck(attends, size, length):
        return 0.9 if attends or length == 2 else size / 200

    assert outcome_of(bottleneck) == "supported"
    assert outcome_of(lambda attends, size, length: 0.9) == "not supported", "neither fall nor advantage"
    assert outcome_of(lambda attends, size, length: size / 100 / length) == "not supported", "attention has no effect"
    assert outcome_of(lambda attends, size, length: 0.55 if attends else size / 80 - length / 25) == "depends"


def test_short_sequences_are_learned_with_both():
    """A planted answer: every state has room for one letter of ten."""
    for row in rows(Scale(1, 80, (24,), (1, 2), num_examples=100), 0):
        if row["length"] == 1:
            assert row["accuracy"] > 0.95, row

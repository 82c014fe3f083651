import re

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from npllm.experiments.seq2seq_comparison import comparison_table, train_and_evaluate
from npllm.experiments.sequence_tasks import EOS_ID


@pytest.fixture(scope="module")
def trained():
    """Two models that copy letters, trained for 100 steps, with and without attention."""
    with threadpool_limits(1):
        return [train_and_evaluate("copy", attention, "rnn", num_steps=100) for attention in ("general", "none")]


def test_accuracies(trained):
    for model in trained:
        by_length = model.accuracy_by_length()
        assert list(by_length) == [3, 4, 5, 6, 7, 8]
        assert sum(number for number, _ in by_length.values()) == 500
        assert sum(number * fraction for number, fraction in by_length.values()) == pytest.approx(500 * model.accuracy)
    assert trained[0].accuracy > trained[1].accuracy


def test_examples_are_those_of_the_batch(trained):
    model = trained[0]
    for index in range(20):
        source, generated, target = model.example(index)
        assert target == source, "the task is to copy"
        assert (generated == target) == model.correct[index]


def test_alignments_are_those_of_the_generated_tokens(trained):
    model = trained[0]
    weights, generated, source = model.longest_alignment()
    assert generated == [*source, "<eos>"], "the example is correct"
    assert weights.shape == (len(generated), len(source))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)
    for index in range(5):
        weights, generated, source = model.alignment(index)
        ids = [model.task.target_tokens.index(token) for token in generated]
        assert ids[-1] == EOS_ID
        assert generated[:-1] == model.task.decode(model.generated[index])
        assert source == model.example(index)[0]


def test_the_comparison_has_both_accuracies(trained):
    content = comparison_table(*trained, "general")
    both = re.search(r"([\d.]+%) are correct with attention and ([\d.]+%) without", content)
    assert list(both.groups()) == [f"{model.accuracy:.1%}" for model in trained]
    table, alignment = (
        [[cell.strip() for cell in line.strip("|").split("|")] for line in part.split("\n") if line.startswith("|")]
        for part in content.split("Each row has")
    )
    assert table[0] == ["target tokens", "examples", "correct, general attention", "correct, no attention"]
    for length, number, *fractions in table[2:]:
        for fraction, model in zip(fractions, trained, strict=True):
            assert model.accuracy_by_length()[int(length)][0] == int(number)
            assert f"{model.accuracy_by_length()[int(length)][1]:.0%}" == fraction
    weights = np.array([[float(cell) for cell in line[1:]] for line in alignment[2:]])
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=0.05)


def test_the_report_gets_the_losses_of_every_step():
    lengths = []
    model = train_and_evaluate("numbers", "dot", "rnn", num_steps=3, report=lambda losses: lengths.append(len(losses)))
    assert lengths == [1, 2, 3]
    assert len(model.losses) == 3

import math

import numpy as np
import pytest

from npllm.experiments.vocabulary_size import Scale, judge, loss_per_byte, rows, split, unknown_words
from npllm.models import GPT, GPTConfig
from npllm.tokenizers import train_bpe
from tests.experiments.made_up import made_up


def test_the_loss_per_byte_of_a_uniform_model():
    """Every token costs ln V: per byte that is ln V over the mean number of bytes a token."""
    text = "the cat and the dog and the cat and a " * 8 + "é"
    tokenizer = train_bpe(text, 270)
    model = GPT(GPTConfig(270, 4, 8, num_layers=1, num_heads=1), rng=np.random.default_rng(0))
    model.wte.weight.data[...] = 0.0
    ids = tokenizer.encode(text)
    predicted = ids[1 : 1 + 4 * -(-(len(ids) - 4) // 4)]
    expected = math.log(270) * len(predicted) / len(tokenizer.decode_bytes(predicted))
    assert loss_per_byte(model, tokenizer, text, 4) == pytest.approx(expected, rel=1e-5)
    assert expected < math.log(256)


def test_unknown_words():
    assert unknown_words("a a b b c", "a b c d", 2) == 0.5
    assert unknown_words("a b c d", "a b c d", 10) == 0.0


def test_the_held_out_part_is_an_eighth():
    text = "".join(map(chr, range(1000, 1800)))
    rest, held_out = split(text, np.random.default_rng(0))
    assert len(held_out) == 100 and held_out in text and len(rest) == 700 and not set(rest) & set(held_out)


def test_steps_are_chosen_for_equal_compute_and_bytes_are_exact():
    found = rows(Scale(1, 40, (256, 2048), 8, 16), 0)
    assert [row["exact"] for row in found] == [1.0, 1.0]
    assert found[0]["bytes a token"] == 1.0 and found[0]["steps"] == 40 and found[1]["steps"] < 20


@pytest.mark.parametrize(
    ("losses", "exact", "outcome"),
    [
        ((1.6, 1.5, 1.4), 1.0, "supported"),
        ((1.6, 1.5, 1.7), 1.0, "depends"),
        ((1.6, 1.7, 1.8), 1.0, "not supported"),
        ((1.6, 1.5, 1.4), 0.9, "not supported"),
    ],
)
def test_the_judge(losses, exact, outcome):
    table = [("x", v, 0.2, v / 256, loss) for v, loss in zip((256, 512, 1024), losses)]
    results = made_up(("data", "V"), ("unknown words", "bytes a token", "loss per byte"), *table)
    for row in results.rows:
        row["exact"] = exact
    assert judge(results).outcome == outcome

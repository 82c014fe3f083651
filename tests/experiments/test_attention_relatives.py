import numpy as np
import pytest

from npllm.experiments.attention_relatives import EXPERIMENT, RELATIVES, SOFTMAX, TASK, _model
from npllm.experiments.experiment import Results
from npllm.experiments.recall import recall_accuracy


def outcome_of(loss, recall):
    """Of made-up results in which one relative differs from softmax attention by these."""
    made_up = [
        {
            "seed": seed,
            "attention": name,
            "learning rate": rate,
            "loss": 2.0 + change[0] + rate,
            "recall": 0.5 + change[1],
        }
        for seed in range(3)
        for rate in (0.1, 0.2)
        for name, change in ((SOFTMAX, (0, 0)), ("RoPE", (0, 0)), ("ALiBi", (loss, recall)))
    ]
    return EXPERIMENT.judge(Results(EXPERIMENT.keys, made_up)).outcome


def test_outcomes():
    assert outcome_of(0.1, -0.2) == "supported"
    assert outcome_of(0.0, 0.0) == "supported"
    assert outcome_of(-0.1, 0.0) == "depends"
    assert outcome_of(0.1, 0.2) == "depends"
    assert outcome_of(-0.1, 0.2) == "not supported"


@pytest.mark.parametrize("name", RELATIVES)
def test_all_models_have_equal_sizes(name):
    sizes = [_model(70, RELATIVES[key], np.random.default_rng(0)).num_parameters() for key in (name, SOFTMAX)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_the_task_can_be_solved_by_looking_up():
    def look_up(ids):
        """Logits that are large for the value of the asked slot: attention by construction."""
        slots = ids[:, -1:] - TASK.num_slots * TASK.num_values
        found = (ids < TASK.num_slots * TASK.num_values) & (ids // TASK.num_values == slots)
        values = (found * ids).sum(axis=1) % TASK.num_values
        return np.eye(TASK.num_values)[values][:, None]

    assert recall_accuracy(TASK, look_up, 300, np.random.default_rng(0)) == 1.0

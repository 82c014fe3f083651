"""A modest number of random config.json files; `python -m tests.weights.random_configs 300` tries more."""

import numpy as np
import pytest

from tests.weights.random_configs import outcome, random_config

REFUSED = ("hidden_act", "activation_function", "rope_theta", "factor", "partial_rotary_factor")  # npllm: fewer values


@pytest.mark.parametrize("seed", range(5))
def test_a_random_config_gives_transformers_numbers_or_is_refused(tmp_path, seed):
    rng, results = np.random.default_rng(seed), []
    for number in range(8):
        config = random_config(rng)
        (tmp_path / str(number)).mkdir()
        result, said = outcome(config, tmp_path / str(number))
        results.append(result)
        assert result in ("same", "both refuse", "npllm refuses", "npllm accepts"), (config, result, said)
        assert result != "npllm refuses" or any(name in said for name in REFUSED), (config, said)
    assert results.count("same") >= 2

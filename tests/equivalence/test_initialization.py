"""Random initial values are drawn symmetrically about their mean, which is 0."""

import numpy as np
import pytest

from tests.equivalence import implementation
from tests.equivalence.cases import CASES, RandomInputs
from tests.equivalence.layers import build

NUM_SEEDS = 40
MEANS = {"SelfAttentionV1": 0.5}  # the book draws from [0, 1) here; 0 everywhere else


class InitialValues(RandomInputs):
    """Where a case compares a layer, build it with several seeds instead and keep the values of its parameters."""

    parameters = {}

    def function(self, name, *arguments, **options):
        """Functions have no parameters."""

    def layer(self, name, config, *inputs, **options):
        """Set `parameters`: for each name an array (number of seeds, ...)."""
        layers = [build(implementation(name), config, np.random.default_rng(n), "float64") for n in range(NUM_SEEDS)]
        states = [dict(layer.named_parameters()) for layer in layers]
        self.parameters = {name: np.array([state[name].data for state in states]) for name in states[0]}


@pytest.mark.parametrize("name", CASES)
def test_random_initial_values_lie_on_both_sides_of_their_mean(name):
    initial = InitialValues(0, "float64")
    CASES[name](initial)
    for parameter, values in initial.parameters.items():
        if (values == values[0]).all():  # ones and zeros of a norm, or a formula
            assert set(np.unique(values)) <= {0.0, 1.0}, parameter
            continue
        values = values - MEANS.get(name, 0.0)
        spread = values.std()
        assert abs(values.mean()) < 5 * spread / np.sqrt(values.size), parameter
        assert values.min() < -spread, parameter
        assert values.max() > spread, parameter

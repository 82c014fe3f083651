"""Every function, layer and model with a case in cases.py, with edge numbers, odd layouts and arrays of other kinds."""

import pytest

from tests.equivalence.cases import CASES
from tests.equivalence.edges import EdgeInputs, check_kinds, check_layouts, check_sizes, check_values

CHECKS = {"values": check_values, "layouts": check_layouts, "kinds": check_kinds, "sizes": check_sizes}


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("name", CASES)
def test_at_the_edge(name, what):
    CASES[name](EdgeInputs(0, "float32", rounds=2, checks=(CHECKS[what],)))
    if what == "values":
        CASES[name](EdgeInputs(1, "float64", rounds=1, checks=(CHECKS[what],)))

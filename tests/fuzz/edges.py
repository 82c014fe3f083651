"""Every case of tests/equivalence with random numbers at the edge, odd layouts and other kinds of arrays."""

import numpy as np

from tests.equivalence.cases import CASES
from tests.equivalence.edges import EdgeInputs
from tests.fuzz.runner import Finding

ROUNDS_OF_A_CASE = 3  # draws of edge values


def edges(rng: np.random.Generator, number: int = 20) -> int:
    """Functions, layers and models with random edge values, against PyTorch."""
    names = list(CASES)
    for _ in range(number):
        name, seed, dtype = str(rng.choice(names)), int(rng.integers(2**31)), str(rng.choice(["float32", "float64"]))
        try:
            CASES[name](EdgeInputs(seed, dtype, rounds=ROUNDS_OF_A_CASE))
        except AssertionError as error:
            case = {"case": name, "seed": seed, "dtype": dtype}
            raise Finding(f"{error}\n{case}", case, kind=f"{name}: {str(error)[:60]}") from error
    return number * ROUNDS_OF_A_CASE


ROUNDS = {"edges": edges}

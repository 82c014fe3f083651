"""Models of nearly equal size: the width at which a model has the number of parameters that all are to have."""

from collections.abc import Callable
from typing import Any

import numpy as np

MAX_WIDTH = 2**16


def build_of_size(build: Callable[..., Any], num_parameters: int, rng: np.random.Generator) -> Any:
    """build(width, rng=rng) for the width whose model is nearest in size.

    `build(width, init=False)` must return a model that grows with the width; no weights are drawn in the search.
    """

    def size(width: int) -> int:
        return build(width, init=False).num_parameters()

    low, high = 1, 2
    while size(high) < num_parameters and high < MAX_WIDTH:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < num_parameters else (low, middle)
    width = min((low, high), key=lambda width: abs(size(width) - num_parameters))
    return build(width, rng=rng)

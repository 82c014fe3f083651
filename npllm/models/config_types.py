"""The types of a configuration's fields: 2.0 layers and "768" channels are refused where they are written.

A NumPy integer becomes an int, a NumPy number a float: a configuration is written to JSON, which has no others.
"""

from typing import Any

import numpy as np

from npllm.core.checks import check_integer, check_number
from npllm.weights.config_fields import MAX_LAYERS, MAX_SIZE


def check_types(
    config: Any, sizes: tuple[str, ...] = (), numbers: tuple[str, ...] = (), flags: tuple[str, ...] = ()
) -> None:
    """Raise TypeError or ValueError unless these fields of a dataclass have valid types; None is valid as a default.

    sizes     names of integers from 1 to 2³¹ − 1; at most 10,000 layers
    numbers   names of finite numbers
    flags     names of bools
    """
    for name in (*sizes, *numbers, *flags):
        value = getattr(config, name)
        if value is None and getattr(type(config), name, ...) is None:
            continue
        if name in sizes:
            value = check_integer(name, value, 1)
            high = MAX_LAYERS if name == "num_layers" else MAX_SIZE
            if value > high:
                raise ValueError(f"{name} is {value}; it must be at most {high}")
        elif name in numbers:
            value = check_number(name, value)
        elif not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} is {value!r:.80}; it must be True or False")
        else:
            value = bool(value)
        object.__setattr__(config, name, value)  # the dataclass is frozen

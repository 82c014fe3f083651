"""Load saved arrays by name, strictly: all of them fit, or nothing is written."""

from collections.abc import Mapping

import numpy as np


def copy_into(own: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray], what: str) -> None:
    """own[name][...] = state[name] for every name; each array keeps its dtype.

    Args:
        own: the arrays to fill, by name.
        state: the saved arrays, by name.
        what: what the arrays belong to, such as "GPT" or "AdamW", for error messages.

    Raises KeyError for a missing or unknown name, ValueError for a shape that differs and TypeError for integers, all
    of them before anything is written.
    """
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        raise KeyError(f"state does not fit {what}: missing {missing}, unknown {unknown}")
    for name, array in own.items():
        saved = state[name] if hasattr(state[name], "shape") else np.asarray(state[name])  # not read yet, if in a file
        if saved.shape != array.shape:
            raise ValueError(f"{name} has shape {saved.shape}; it must be {array.shape}")
        if not np.issubdtype(saved.dtype, np.floating):
            raise TypeError(f"{name} has dtype {saved.dtype}; it must be floating point")
    written = set()
    for name, array in own.items():
        if (id(array), id(state[name])) not in written:  # tied weights have two names
            array[...] = state[name]
        written.add((id(array), id(state[name])))

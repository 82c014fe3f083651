"""Split a sequence of ids into a training part and a validation part, between two documents if possible.

    ids → [training ids | validation ids]

The ids are split, not the text: a split of the text could fall into a special token or a word, whose halves would get
ids that no encoder gives.
"""

import numpy as np


def split_position(ids: np.ndarray, validation_fraction: float = 0.1, end_id: int | None = None) -> int:
    """The index of the first validation id, near len(ids) · (1 − validation_fraction).

    If `end_id`, the token at the end of a document, occurs within half a validation part of that index, the split is
    behind the nearest occurrence; otherwise it is at the index itself. `ids` may be memory-mapped: only the ids around
    the split are read. Raises ValueError for a fraction outside (0, 1).
    """
    if not 0.0 < validation_fraction < 1.0:
        raise ValueError(f"validation_fraction is {validation_fraction}; it must be between 0 and 1")
    wanted = int(len(ids) * (1.0 - validation_fraction))
    if end_id is None:
        return wanted
    margin = int(len(ids) * validation_fraction / 2)
    first = max(wanted - margin, 0)
    after_end = first + 1 + np.flatnonzero(np.asarray(ids[first : wanted + margin]) == end_id)
    return int(min(after_end, key=lambda index: abs(index - wanted), default=wanted))


def check_parts(parts: dict[str, np.ndarray], context_length: int) -> None:
    """Raise ValueError unless each part, by name, has at least one window and its last target."""
    for name, ids in parts.items():
        if len(ids) <= context_length:
            raise ValueError(
                f"the {name} text has {len(ids)} tokens; with context_length {context_length} it must have at least "
                f"{context_length + 1}"
            )

"""Many stretches of one long array, gathered in one step.

The tokens of a text, the bytes of its pieces, the ids of its words: each is a stretch of some row, and what is wanted
is one stretch behind the other. Place p of the result belongs to the stretch that ends there first; within a stretch
the difference between p and the place that it comes from is the same everywhere. So each stretch's difference is
repeated as often as it has entries, and p added.

    begins  7 2        differences  7−0 2−3                 places  7 8 9 2 3
    lengths 3 2        repeated     7 7 7 −1 −1   + 0 1 2 3 4
"""

import numpy as np


def stretches(begins, lengths):
    """The places in all stretches, one behind the other: where each begins and how long it is → (lengths.sum(),)."""
    ends = np.cumsum(lengths, dtype=np.int64)
    places = np.repeat(begins - ends + lengths, lengths)
    places += np.arange(len(places))
    return places

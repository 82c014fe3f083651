"""Ragged arrays: segments of different lengths, stored one after another in a single array.

The ids of a text's pre-tokens, the bytes of its tokens: each is a segment of one long array. A result is a
concatenation of such segments, gathered by a single indexing operation.

Index j of the result belongs to the first segment that ends after j. Within a segment, the difference between the
source index and j is constant. So each segment's difference is repeated once for each of its elements, and j is added.

    starts   7 2      differences  7−0 2−3      source indices  7 8 9 2 3
    lengths  3 2      repeated     7 7 7 −1 −1  + j = 0 1 2 3 4
"""

import numpy as np


def gather_segments(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The concatenation of the S segments values[starts[i] : starts[i] + lengths[i]].

    (n,), (S,), (S,) → (lengths.sum(),)
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    indices = np.repeat(starts - ends + lengths, lengths)
    indices += np.arange(len(indices))
    return values.take(indices)

"""What Hypothesis draws, in one place: dtypes, shapes, and arrays of many values and memory layouts."""

import numpy as np
from hypothesis import strategies as st

dtypes = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])
sizes = st.integers(1, 7)
seeds = st.integers(0, 2**32 - 1)
leading = st.lists(st.integers(1, 3), max_size=2).map(tuple)  # unbatched, batched, batch of batches
layouts = st.sampled_from(["rows first", "columns first", "every second", "backwards"])
values = st.sampled_from(["normal", "small", "few distinct"])


@st.composite
def arrays(draw, shape, dtype, scale=1.0):
    """A floating-point array: normal numbers, tiny ones, or ones with many ties; in one of four memory layouts."""
    rng = np.random.default_rng(draw(seeds))
    kind = draw(values)
    if kind == "normal":
        array = scale * rng.standard_normal(shape)
    elif kind == "small":
        array = 0.01 * rng.standard_normal(shape)
    else:
        array = scale * rng.integers(-2, 3, shape)
    return lay_out(np.asarray(array, dtype), draw(layouts))


@st.composite
def integers(draw, shape, high):
    """Ids in [0, high), often repeated, in one of four memory layouts."""
    rng = np.random.default_rng(draw(seeds))
    return lay_out(rng.integers(0, draw(st.integers(1, high)), shape), draw(layouts))


def lay_out(array, layout):
    """The same numbers, differently placed in memory."""
    if layout == "columns first":
        return np.asfortranarray(array)
    if array.ndim and layout == "every second":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 77, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if array.ndim and layout == "backwards":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    return array

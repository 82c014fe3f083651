"""Strategies of Hypothesis: dtypes, shapes, and arrays of many values and memory layouts."""

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
    """The same numbers in another memory layout."""
    if layout == "columns first":
        return np.asfortranarray(array)
    if array.ndim and layout == "every second":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 77, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if array.ndim and layout == "backwards":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    return array


# Text that is difficult for a tokenizer: whitespace of all kinds, contractions, letters and numbers of many scripts,
# characters that Python and tiktoken classify differently, special tokens, punctuation, lone surrogates.
_AWKWARD = [
    " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\x1c", "\x1f", "\x85", "\u00a0", "\u2003", "\u3000", "\u200b",
    "'", "'s", "'S", "''s", "'ll", "'LL", "'ve", "\u2019s", "don't", "a", "the", "The", " the", "0", "12", "3.14",
    "\u0660", "\u00b2", "\u2167", "\u4e00", "\u8a9e", "\u0e01\u0e49", "\u0915\u093f", "e\u0301", "\u00e9", "\u00df",
    "\u01c5", "\U0001f600", "\U0001f468\u200d\U0001f469", "\U00010400", "\U0001e900", "\U00031350", "\ud800",
    "\udfff", "\ud83d\ude00", "\ufeff", "\x00", "\x7f", "<|endoftext|>", "<|endoftext", "|>", "<|unk|>", "--", "...",
    "\u2026", "(", ")", "_", "\\", "\u00ac",
]  # fmt: skip
# The characters on both sides of each limit where the length in UTF-8 changes, and around the surrogates.
UTF8_LIMITS = ["\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]
utf8_limits = st.sampled_from(UTF8_LIMITS)
texts = st.lists(st.sampled_from(_AWKWARD + UTF8_LIMITS) | st.text(max_size=4), max_size=20).map("".join)
few_letters = st.text("ab \n", max_size=60)  # many repetitions, many ties

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.byte_pair.pretokenize import PATTERNS, pretokenize
from npllm.tokenizers.vectorized import safe_split_points as module
from npllm.tokenizers.vectorized.char_classes import char_class_table
from npllm.tokenizers.vectorized.safe_split_points import SHORT_TAIL, last_safe_split_point, safe_split_points
from tests.tokenizers.vectorized.pretokens import awkward, picture

patterns = st.sampled_from(list(PATTERNS.values()))


def positions_in(text):
    codes = np.array(list(map(ord, text)))
    return np.flatnonzero(safe_split_points(codes, char_class_table().take(codes))).tolist()


@given(awkward, patterns)
def test_splitting_at_a_safe_split_point_changes_no_pretokens(text, pattern):
    for position in positions_in(text):
        before, after = pretokenize(text[:position], pattern), pretokenize(text[position:], pattern)
        assert before + after == pretokenize(text, pattern)


@given(awkward)
def test_the_last_safe_split_point(text):
    for suffix in ("", "a" * SHORT_TAIL, "a" * 3 * SHORT_TAIL):
        codes = np.array(list(map(ord, text + suffix)))
        assert last_safe_split_point(codes) == max(positions_in(text + suffix), default=0)


def test_the_picture_in_the_docstring():
    text, rows = picture(module)
    assert set(positions_in(text)) == rows[0]["|"] | rows[1]["|"]
    assert len(positions_in(text)) == 4

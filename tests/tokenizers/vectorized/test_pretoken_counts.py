from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import pretokenize
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized import blocks
from npllm.tokenizers.vectorized.pretoken_counts import count_pieces, distinct_pieces
from tests.strategies import texts

patterns = st.sampled_from([*PATTERNS.values(), r"\p{L}+|[^\p{L}]"])


def as_list(pieces):
    text, ends = pieces.data.tobytes(), np.cumsum(pieces.lengths).tolist()
    return [(text[end - length : end], count) for end, length, count in zip(ends, *map(np.ndarray.tolist, pieces[1:]))]


def counted(parts, pattern):
    counts = Counter(piece for part in parts for piece in pretokenize(part, pattern))
    return [(piece.encode(), count) for piece, count in counts.items()]


@given(st.lists(texts.map(replace_surrogates), max_size=6), patterns, st.integers(1, 60))
def test_each_piece_once_with_its_count_in_the_order_of_the_text(parts, pattern, size):
    blocks.BLOCK, before = size, blocks.BLOCK
    try:
        assert as_list(count_pieces(iter(parts), pattern)) == counted(parts, pattern)
    finally:
        blocks.BLOCK = before


def test_a_real_text(story):
    text = story + "=" * 100 + "é" * 40 + " " + "=" * 100 + story
    for pattern in PATTERNS.values():
        assert as_list(count_pieces([text], pattern)) == counted([text], pattern)
        lines = text.split("\n")
        assert as_list(count_pieces(lines, pattern)) == counted(lines, pattern)


def test_more_pieces_than_an_encoder_would_remember():
    text = " ".join(map(str, range(300_000)))
    assert len(count_pieces([text, text], PATTERNS["gpt2"]).counts) == 300_000
    assert set(count_pieces([text, text], PATTERNS["gpt2"]).counts.tolist()) == {2}


def test_of_byte_strings():
    assert as_list(distinct_pieces([b"b", b"", b"a", b"b"])) == [(b"b", 2), (b"a", 1)]
    assert as_list(distinct_pieces({b"b": 3, b"\xff": 4})) == [(b"b", 3), (b"\xff", 4)]
    assert as_list(distinct_pieces([])) == []

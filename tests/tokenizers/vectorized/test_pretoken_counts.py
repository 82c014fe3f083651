from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.byte_pair.pretokenize import PATTERNS, pretokenize
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized import blocks
from npllm.tokenizers.vectorized.pretoken_counts import PretokenCounts, count_pretokens
from tests.strategies import texts

patterns = st.sampled_from([*PATTERNS.values(), r"\p{L}+|[^\p{L}]"])


def as_list(found):
    data, ends = found.data.tobytes(), np.cumsum(found.lengths).tolist()
    rows = zip(ends, found.lengths.tolist(), found.counts.tolist())
    return [(data[end - length : end], count) for end, length, count in rows]


def counted(parts, pattern):
    counts = Counter(pretoken for part in parts for pretoken in pretokenize(part, pattern))
    return [(pretoken.encode(), count) for pretoken, count in counts.items()]


@given(st.lists(texts.map(replace_surrogates), max_size=6), patterns, st.integers(1, 60))
def test_distinct_pretokens_with_counts_in_the_order_of_first_occurrence(parts, pattern, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_SIZE", size)
        assert as_list(count_pretokens(iter(parts), pattern)) == counted(parts, pattern)


def test_long_pretokens_and_short_texts(story):
    text = story + "=" * 200 + "é" * 80 + " " + "=" * 200 + story
    for pattern in PATTERNS.values():
        assert as_list(count_pretokens([text], pattern)) == counted([text], pattern)
        lines = text.split("\n")
        assert as_list(count_pretokens(lines, pattern)) == counted(lines, pattern)


def test_more_pretokens_than_an_encoder_caches():
    text = " ".join(map(str, range(300_000)))
    counts = count_pretokens([text, text], PATTERNS["gpt2"]).counts
    assert len(counts) == 300_000
    assert set(counts.tolist()) == {2}


def test_counts_of_byte_strings():
    assert as_list(PretokenCounts.from_bytes([b"b", b"", b"a", b"b"])) == [(b"b", 2), (b"a", 1)]
    assert as_list(PretokenCounts.from_bytes({b"b": 3, b"\xff": 4})) == [(b"b", 3), (b"\xff", 4)]
    assert as_list(PretokenCounts.from_bytes([])) == []

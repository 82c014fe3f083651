import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.vectorized.pretoken_table import MAX_BYTES, PADDING, PretokenTable

# of every key length, with few letters, so that many are equal or share a prefix
pretokens = st.text("ab", min_size=1, max_size=18).map(str.encode) | st.builds(
    lambda letter, length, end: letter * length + end,
    st.sampled_from([b"a", b"b", b"\xf4"]),
    st.sampled_from([1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 126, 127]),
    st.sampled_from([b"", b"a", b"\x00"]),
)
batches = st.lists(st.lists(pretokens, max_size=30), max_size=4)


def arrays(batch):
    lengths = np.array([len(pretoken) for pretoken in batch], np.int64)
    return np.frombuffer(b"".join(batch) + PADDING, np.uint8), np.cumsum(lengths) - lengths, lengths


@given(batches, st.lists(pretokens, max_size=10))
def test_behaves_like_a_dict(batches, queries):
    table, expected = PretokenTable(), {}
    for batch in batches:
        distinct = []

        def new_values(indices, batch=batch, distinct=distinct):
            distinct += [batch[index] for index in indices]
            expected.update((pretoken, len(expected) + i) for i, pretoken in enumerate(distinct))
            return np.array([expected[pretoken] for pretoken in distinct])

        before = set(expected)
        values = table.get_or_insert(*arrays(batch), new_values)
        assert sorted(distinct) == sorted(set(batch) - before)
        assert values.tolist() == [expected[pretoken] for pretoken in batch]
    assert table.get(*arrays(queries), -1).tolist() == [expected.get(pretoken, -1) for pretoken in queries]


@given(st.lists(pretokens, unique=True, max_size=30), st.lists(pretokens, max_size=10))
def test_a_table_from_arrays(known, queries):
    table = PretokenTable.from_arrays(*arrays(known), np.arange(len(known)))
    expected = {pretoken: index for index, pretoken in enumerate(known)}
    assert table.get(*arrays(queries), -1).tolist() == [expected.get(pretoken, -1) for pretoken in queries]


def test_longer_pretokens_are_left_out():
    batch = [b"a" * (MAX_BYTES + 1), b"a" * MAX_BYTES]
    table = PretokenTable()
    values = table.get_or_insert(*arrays(batch), lambda indices: indices + 5)
    assert values.tolist() == [0, 6]
    assert table.get(*arrays(batch), -1).tolist() == [-1, 6]

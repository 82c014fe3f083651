import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.vectorized.hash_table import MULTIPLIER, HashTable

few_keys = st.lists(st.integers(0, 30), max_size=60)
any_keys = st.lists(st.integers(0, 2**64 - 2), max_size=60)


def columns(keys, num_words):
    """Keys as rows of words: the first word is shared by many, so that the others must distinguish them."""
    keys = np.array(keys, np.uint64)
    if num_words == 1:
        return [keys]
    return [keys % np.uint64(7), *[keys + np.uint64(word) for word in range(1, num_words)]]


@given(st.lists(few_keys | any_keys, max_size=4), few_keys | any_keys, st.sampled_from([1, 2, 4]))
def test_behaves_like_a_dict(batches, queries, num_words):
    table, expected = HashTable(num_words, capacity=1), {}
    for number, batch in enumerate(batches):
        slots, inserted = table.insert(columns(batch, num_words))
        assert sorted(np.array(batch)[inserted]) == sorted(set(batch) - expected.keys())
        table.values[slots] = [hash((key, number)) % 1000 for key in batch]
        expected |= {key: hash((key, number)) % 1000 for key in batch}
    assert table.get(columns(queries, num_words), -1).tolist() == [expected.get(key, -1) for key in queries]
    _, found = table.find(columns(queries, num_words))
    assert found.tolist() == [key in expected for key in queries]
    assert table.num_keys == len(expected)


def test_keys_with_the_same_first_slot():
    table = HashTable(capacity=100)
    inverse = pow(int(MULTIPLIER), -1, 2**64)
    keys = [np.array([inverse * low_bits % 2**64 for low_bits in range(90)], np.uint64)]  # all are hashed to slot 0
    slots, inserted = table.insert(keys)
    table.values[slots] = np.arange(90)
    assert sorted(slots) == list(range(90))
    assert inserted.all()
    assert table.get(keys, -1).tolist() == list(range(90))
    assert table.get([np.array([inverse * 90 % 2**64], np.uint64)], -1) == -1


def test_equal_keys_get_one_slot():
    table = HashTable()
    slots, inserted = table.insert([np.array([5, 6, 5, 5, 6], np.uint64)])
    assert slots[0] == slots[2] == slots[3] != slots[1] == slots[4]
    assert inserted[[0, 2, 3]].sum() == inserted[[1, 4]].sum() == 1
    assert table.num_keys == 2


def test_values_survive_growth():
    table = HashTable(capacity=1)
    for key in range(1000):
        slots, _ = table.insert([np.array([key], np.uint64)])
        table.values[slots] = key
    assert table.get([np.arange(1000, dtype=np.uint64)], -1).tolist() == list(range(1000))

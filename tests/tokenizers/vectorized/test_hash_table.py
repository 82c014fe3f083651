import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.vectorized.hash_table import SPREAD, Table

few_keys = st.lists(st.integers(0, 30), max_size=60)
any_keys = st.lists(st.integers(0, 2**64 - 2), max_size=60)


def columns(keys, words):
    """Keys as rows of words: the first word is shared by many, so that the others must tell them apart."""
    keys = np.array(keys, np.uint64)
    return [keys % np.uint64(7), *[keys + np.uint64(word) for word in range(1, words)]] if words > 1 else [keys]


@given(st.lists(few_keys | any_keys, max_size=4), few_keys | any_keys, st.sampled_from([1, 2, 4]))
def test_it_is_a_dict(batches, asked, words):
    table, expected = Table(words, room=1), {}
    for number, batch in enumerate(batches):
        places = table.add(columns(batch, words))
        table.values[places] = [hash((key, number)) % 1000 for key in batch]
        expected |= {key: hash((key, number)) % 1000 for key in batch}
    assert table.get(columns(asked, words), -1).tolist() == [expected.get(key, -1) for key in asked]
    places, there = table.find(columns(asked, words))
    assert there.tolist() == [key in expected for key in asked]
    if words == 1:
        assert table.used == len(expected)


def test_keys_that_want_the_same_place_all_find_one():
    table = Table(room=100)
    inverse = pow(int(SPREAD), -1, 2**64)
    keys = [np.array([inverse * rest % 2**64 for rest in range(90)], np.uint64)]  # all are spread to the first place
    table.values[table.add(keys)] = np.arange(90)
    assert table.get(keys, -1).tolist() == list(range(90))
    assert table.get([np.array([inverse * 90 % 2**64], np.uint64)], -1) == -1


def test_equal_keys_get_one_place():
    table = Table()
    places = table.add([np.array([5, 6, 5, 5, 6], np.uint64)])
    assert places[0] == places[2] == places[3] != places[1] == places[4]
    assert table.used == 2

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.batching import DataLoader, GPTDatasetV1, WindowDataset, create_dataloader_v1, encode_for_training
from npllm.tokenizers import SimpleTokenizerV2, build_vocab, train_bpe
from tests.tokenizers.peers import gpt2, gpt2_tiktoken


def dataset(n=50, max_length=4, stride=2):
    return WindowDataset(np.arange(n, dtype=np.uint16), max_length, stride)


def epoch(loader):
    return [(inputs.tolist(), targets.tolist()) for inputs, targets in loader]


def test_a_window_and_a_batch():
    inputs, targets = dataset()[3]
    assert (inputs.tolist(), targets.tolist()) == ([6, 7, 8, 9], [7, 8, 9, 10])
    inputs, targets = dataset()[np.array([0, 3])]
    assert inputs.tolist() == [[0, 1, 2, 3], [6, 7, 8, 9]]
    assert inputs.dtype == targets.dtype == np.int64
    with pytest.raises(IndexError):
        dataset()[23]
    assert len(dataset()) == 23


@given(
    st.integers(2, 40),
    st.integers(1, 9),
    st.integers(1, 12),
    st.sampled_from([list, tuple, np.array, lambda ids: np.array(ids, np.uint16)]),
)
def test_every_window_of_a_dataset_equals_slicing(n, max_length, stride, container):
    max_length = min(max_length, n - 1)
    ids = [7 * i % 1000 for i in range(n)]
    windows = WindowDataset(container(ids), max_length, stride)
    starts = range(0, n - max_length, stride)
    assert len(windows) == len(starts)
    for window, start in zip((windows[i] for i in range(len(windows))), starts):
        assert window[0].tolist() == ids[start : start + max_length]
        assert window[1].tolist() == ids[start + 1 : start + max_length + 1]
    last = windows[-1]
    assert last[1][-1] == ids[starts[-1] + max_length]
    assert isinstance(windows.ids, np.ndarray) and windows.ids.tolist() == ids
    assert (windows.max_length, windows.stride) == (max_length, stride)
    stats = DataLoader(windows, 1).epoch_stats()
    assert (stats.tokens, stats.windows, stats.batches) == (n, len(starts), len(starts))


def test_a_batch_is_a_copy_and_the_ids_stay_as_they_are():
    ids = np.arange(20)
    windows = WindowDataset(ids, 4, 2)
    assert np.shares_memory(windows.ids, ids) and np.shares_memory(windows.inputs, ids)
    inputs, targets = windows[np.array([1])]
    inputs += 1
    targets += 1
    np.testing.assert_array_equal(ids, np.arange(20))


@given(st.integers(5, 60), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_without_shuffling_it_equals_pytorchs_loader(n, max_length, stride, batch_size, drop_last):
    windows = dataset(n, max_length, stride)
    if drop_last:
        batch_size = min(batch_size, len(windows))
    loader = DataLoader(windows, batch_size, drop_last=drop_last)

    class Book(torch.utils.data.Dataset):
        def __len__(self):
            return len(windows)

        def __getitem__(self, index):
            return tuple(torch.tensor(array) for array in windows[index])

    theirs = torch.utils.data.DataLoader(Book(), batch_size, shuffle=False, drop_last=drop_last)
    assert epoch(loader) == [(inputs.tolist(), targets.tolist()) for inputs, targets in theirs]
    assert len(loader) == len(theirs)


@given(st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_a_shuffled_epoch_has_every_window_once(batch_size, drop_last, seed):
    loader = DataLoader(dataset(), batch_size, shuffle=True, drop_last=drop_last, rng=np.random.default_rng(seed))
    rows = [tuple(row) for inputs, _ in epoch(loader) for row in inputs]
    every = [tuple(row) for row in dataset().inputs.tolist()]
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(every)
    assert len(rows) == (len(every) // batch_size * batch_size if drop_last else len(every))


def test_every_epoch_has_a_new_order_determined_by_the_seed():
    one, same, other = (DataLoader(dataset(), 4, shuffle=True, rng=np.random.default_rng(seed)) for seed in (0, 0, 1))
    first, second = epoch(one), epoch(one)
    assert first != second
    assert [epoch(same), epoch(same)] == [first, second]
    assert epoch(other) != first
    assert sorted(sum((inputs for inputs, _ in first), [])) == sorted(sum((inputs for inputs, _ in second), []))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_neither_the_batches_nor_their_order(num_workers):
    single = DataLoader(dataset(), 3, shuffle=True, rng=np.random.default_rng(0))
    threaded = DataLoader(dataset(), 3, shuffle=True, rng=np.random.default_rng(0), num_workers=num_workers)
    for _ in range(3):
        assert epoch(threaded) == epoch(single)


class Slow:
    """A dataset that records which items were read by which threads."""

    def __init__(self):
        self.read, self.threads = [], set()

    def __len__(self):
        return 40

    def __getitem__(self, index):
        self.threads.add(threading.current_thread().name)
        time.sleep(0.002 if index[0] % 3 else 0.02)
        self.read.append(int(index[0]))
        return index, index


def test_workers_read_ahead_in_other_threads():
    slow = Slow()
    batches = iter(DataLoader(slow, 1, num_workers=2))
    next(batches)
    deadline = time.monotonic() + 10
    while len(slow.read) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(slow.read) >= 4, "it must read ahead of the consumer"
    assert threading.current_thread().name not in slow.threads
    assert [int(inputs[0]) for inputs, _ in batches] == list(range(1, 40))


def test_an_epoch_left_early_stops_its_workers():
    slow = Slow()
    before = threading.active_count()
    for _ in DataLoader(slow, 1, num_workers=2):
        break
    assert threading.active_count() == before
    assert len(slow.read) < 15


def test_an_error_while_reading_reaches_the_caller():
    class Broken(Slow):
        def __getitem__(self, index):
            if index[0] == 5:
                raise OSError("the disk failed")
            return index, index

    with pytest.raises(OSError, match="the disk failed"):
        list(DataLoader(Broken(), 1, num_workers=2))


def test_the_dataset_and_loader_of_the_book(story):
    text = story[:4000]
    ids = gpt2().encode(text)
    windows = GPTDatasetV1(text, gpt2(), max_length=8, stride=8)
    assert windows[0][0].tolist() == ids[:8]
    assert windows[1][1].tolist() == ids[9:17]
    loader = create_dataloader_v1(text, batch_size=2, max_length=8, stride=8, shuffle=False)
    inputs, targets = next(iter(loader))
    assert inputs.tolist() == [ids[:8], ids[8:16]]
    assert targets.tolist() == [ids[1:9], ids[9:17]]
    assert loader.epoch_stats().tokens == len(ids)


def test_the_defaults_are_those_of_the_book(story):
    loader = create_dataloader_v1(story)
    assert (loader.batch_size, loader.shuffle, loader.drop_last, loader.num_workers) == (4, True, True, 0)
    assert (loader.dataset.max_length, loader.dataset.stride) == (256, 128)


def test_end_of_text_is_special_where_the_tokenizer_has_it():
    text = "one two <|endoftext|> two one"
    words = SimpleTokenizerV2(build_vocab(text, ["<|unk|>"]))
    assert encode_for_training(text, words).tolist() == words.encode(text)
    assert 50256 in encode_for_training(text, gpt2())
    assert encode_for_training(text, gpt2_tiktoken()).tolist() == encode_for_training(text, gpt2()).tolist()
    without = train_bpe(text, 260)
    assert encode_for_training(text, without).tolist() == without.encode_ordinary(text)


def test_the_defaults_of_the_loader():
    loader = DataLoader(dataset())
    assert (loader.batch_size, loader.shuffle, loader.drop_last, loader.num_workers) == (4, False, False, 0)


@pytest.mark.parametrize("ids", [[1, -1], [0.5], ["a"]])
def test_ids_of_a_tokenizer_must_be_integers_of_0_or_more(ids):
    class Tokenizer:
        def encode(self, text):
            return ids

    with pytest.raises(TypeError, match="the tokenizer returned .*; ids must be integers of 0 or more"):
        encode_for_training("text", Tokenizer())


def test_a_tokenizer_may_return_the_id_0_and_no_id():
    class Tokenizer:
        def encode(self, text):
            return [0] * len(text)

    assert encode_for_training("ab", Tokenizer()).tolist() == [0, 0]
    assert encode_for_training("", Tokenizer()).dtype == np.int64


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size is 0; it must be at least 1"),
        ({"num_workers": -1}, ValueError, "num_workers is -1; it must be at least 0"),
        ({"batch_size": 24, "drop_last": True}, ValueError, "batch_size is 24 and the dataset has 23 windows"),
        ({"rng": 0}, TypeError, "rng is 0; it must be a numpy.random.Generator"),
    ],
)
def test_invalid_arguments(options, error, message):
    with pytest.raises(error, match=message):
        DataLoader(dataset(), **options)


def test_an_empty_dataset():
    with pytest.raises(ValueError, match="dataset is empty"):
        DataLoader([], 1)
    with pytest.raises(ValueError, match="the text has 2 tokens; with max_length 256 it must have at least 257"):
        create_dataloader_v1("too short")

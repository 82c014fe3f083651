import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npllm.attention.kv_cache import KVCache, ModelKVCache, SlidingWindowKVCache
from npllm.generation import NextLogits, complete, generate, generate_text
from npllm.generation.next_logits import context_start
from npllm.tokenizers import CharacterTokenizer
from tests.models.test_gpt import SMALL, small

prompts = st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=12), min_size=1, max_size=3)


def plain_greedy(model, ids, num_tokens):
    """Greedy generation by a loop of whole forward passes, independent of `generate`."""
    ids = list(ids)
    for _ in range(num_tokens):
        start = 0
        while len(ids) - start > model.context_length:
            start += model.context_length // 2
        ids.append(int(model.forward(np.array(ids[start:]))[0][-1].argmax()))
    return ids[-num_tokens:]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 99), st.booleans())
def test_logits_with_a_kv_cache_equal_those_of_the_whole_sequence(chunks, seed, batched):
    model, *_ = small()
    length = min(sum(chunks), 8)
    ids = np.random.default_rng(seed).integers(0, 11, (2, length) if batched else (1, length))
    kv_cache, found, start = model.new_kv_cache(len(ids)), [], 0
    for size in chunks:
        if start < length:
            found.append(model(ids[:, start : start + size], kv_cache=kv_cache))
            start += size
    np.testing.assert_allclose(np.concatenate(found, axis=1), model(ids), rtol=1e-10, atol=1e-12)
    assert kv_cache.length == length


@given(st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(0, 99))
def test_prompts_of_different_lengths_do_not_affect_each_other(lengths, seed):
    model, *_ = small()
    rng, width = np.random.default_rng(seed), max(lengths)
    left_padding = np.array([width - length for length in lengths])
    ids = rng.integers(0, 11, (len(lengths), width))
    logits = model(ids, kv_cache=model.new_kv_cache(len(lengths), left_padding))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(logits[row, -length:], model(ids[row, -length:]), rtol=1e-9, atol=1e-12)


@settings(max_examples=15)
@given(prompts, st.integers(1, 20))
def test_greedy_text_equals_that_of_a_plain_loop(rows, num_tokens):
    model, *_ = small()
    for use_kv_cache in (True, False):
        steps = list(generate(model, rows, num_tokens, temperature=0, use_kv_cache=use_kv_cache))
        for row, prompt in enumerate(rows):
            assert [step[row] for step in steps] == plain_greedy(model, prompt, num_tokens)


@settings(max_examples=15)
@given(prompts, st.integers(0, 99))
def test_sequences_of_a_batch_are_reproducible_and_independent(rows, seed):
    model, *_ = small()
    options = {"temperature": 1.3, "top_k": 7, "top_p": 0.95, "repetition_penalty": 1.2}
    together = list(generate(model, rows, 12, rng=np.random.default_rng(seed), **options))
    assert together == list(generate(model, rows, 12, rng=np.random.default_rng(seed), **options))
    first_alone = complete(model, rows[0], 12, rng=np.random.default_rng(seed), **options)
    assert [step[0] for step in together] == first_alone


def test_a_sequence_ends_with_a_stop_id_and_the_others_continue():
    model, *_ = small()
    rows = [[1, 2, 3], [4], [5, 6]]
    free = list(zip(*generate(model, rows, 15, temperature=0)))
    stop = free[0][4]
    stopped = list(zip(*generate(model, rows, 15, temperature=0, stop_ids=[stop])))
    for row, whole in zip(stopped, free):
        end = whole.index(stop) + 1 if stop in whole else len(whole)
        said = [new_id for new_id in row if new_id is not None]
        assert said == list(whole[:end])[: len(row)]
        assert all(new_id is None for new_id in row[end:])


def test_ids_are_yielded_step_by_step(monkeypatch):
    model, *_ = small()
    calls = []
    hidden_states = model.hidden_states
    monkeypatch.setattr(
        model, "hidden_states", lambda ids, **o: calls.append(np.shape(ids)) or hidden_states(ids, **o), raising=False
    )
    steps = generate(model, [[1, 2, 3]], 5)
    assert calls == []
    next(steps)
    assert calls == [(1, 3)]
    next(steps)
    assert calls == [(1, 3), (1, 1)], "the second token costs one query"


def test_a_long_prompt_is_processed_in_chunks(monkeypatch):
    model, *_ = small()
    expected = complete(model, [1, 2, 3, 4, 5, 6, 7], 3, temperature=0)
    monkeypatch.setattr("npllm.generation.next_logits.CHUNK", 2)
    assert complete(model, [1, 2, 3, 4, 5, 6, 7], 3, temperature=0) == expected


@given(st.integers(1, 300), st.integers(1, 40))
def test_the_context_is_between_half_and_all_of_the_context_length(num_ids, context_length):
    start = context_start(num_ids, context_length)
    kept = num_ids - start
    assert min(num_ids, context_length - max(context_length // 2, 1) + 1) <= kept <= context_length
    moved = sum(context_start(n + 1, context_length) != context_start(n, context_length) for n in range(1, num_ids))
    assert moved <= num_ids / max(context_length // 2, 1)


def test_the_work_per_token_is_bounded_beyond_the_context_length(monkeypatch):
    """Tokens read per new token, once the window has filled: at most a half window every half window, plus one."""
    model, *_ = small()
    read = []
    hidden_states = model.hidden_states
    monkeypatch.setattr(
        model, "hidden_states", lambda ids, **o: read.append(np.size(ids)) or hidden_states(ids, **o), raising=False
    )
    complete(model, [1], 80, temperature=0)
    assert sum(read) / 80 <= 3.0
    assert sum(size > 1 for size in read) <= 80 / (SMALL.context_length // 2) + 1


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        ([[]], {}, ValueError, r"prompts\[0\] is empty"),
        ([[1], [99]], {}, IndexError, r"prompts\[1\]\[0\] is 99; it must be in \[0, 11\)"),
        ([[1]], {"max_new_tokens": -1}, ValueError, "max_new_tokens is -1"),
    ],
)
def test_errors_come_before_the_first_step(rows, options, error, message):
    model, *_ = small()
    with pytest.raises(error, match=message):
        generate(model, rows, **{"max_new_tokens": 3} | options)


def test_nothing_to_do():
    model, *_ = small()
    assert list(generate(model, [], 3)) == []
    assert complete(model, [1], 0) == []


def test_a_kv_cache_has_room_for_the_context_length_only():
    model, *_ = small()
    kv_cache = model.new_kv_cache()
    model(np.zeros((1, 6), int), kv_cache=kv_cache)
    with pytest.raises(ValueError, match="num_new is 3: with 6 before they are 9; the context_length is 8"):
        model(np.zeros((1, 3), int), kv_cache=kv_cache)
    assert kv_cache.length == 6
    assert kv_cache.nbytes == 2 * 2 * 12 * 6 * 8  # keys and values, layers, channels, columns, bytes


@pytest.mark.parametrize(
    ("prompts", "options", "error", "message"),
    [
        ([[1]], {"rng": 0}, TypeError, "rng is 0; it must be a numpy.random.Generator"),
        ([[1]], {"stop_ids": 7}, TypeError, "stop_ids is 7; it must be a list"),
        ([[1]], {"stop_ids": [11]}, IndexError, r"stop_ids\[0\] is 11; it must be in \[0, 11\)"),
        ([[1]], {"stop_ids": "a"}, TypeError, "stop_ids is 'a'; it must be a list"),
        ([[1]], {"excluded_ids": [-1]}, IndexError, r"excluded_ids\[0\] is -1"),
        ([[1]], {"top_k": 2.0}, TypeError, "top_k is 2.0; it must be an integer"),
        ([[1]], {"top_p": 0}, ValueError, "top_p is 0"),
        ([[1]], {"logit_bias": {11: 1.0}}, IndexError, r"logit_bias\[0\] is 11"),
        ([[1]], {"stop_strings": ["a"]}, ValueError, "stop_strings needs the tokenizer; tokenizer is None"),
        ([[1]], {"stop_strings": "a"}, TypeError, "stop_strings is the text 'a'; it must be a list of texts"),
        ([[1]], {"max_new_tokens": 2.0}, TypeError, "max_new_tokens is 2.0; it must be an integer"),
        ([[[1, 2]]], {}, ValueError, r"prompts\[0\] has shape \(1, 2\); it must be \(T\)"),
        (np.array([[[1, 2]]]), {}, ValueError, r"prompts\[0\] has shape \(1, 2\); it must be \(T\)"),
        ([1, 2], {}, TypeError, r"prompts\[0\] is 1; it must be a sequence of ids \(T\)"),
        (7, {}, TypeError, "prompts is 7; it must be a sequence of prompts"),
        (["text"], {}, TypeError, r"prompts\[0\] is 'text'; it must be a sequence of ids"),
        ([[[1], [2, 3]]], {}, ValueError, r"prompts\[0\] has lists in it; it must be a sequence of ids \(T\)"),
        ([[1.5]], {}, TypeError, r"prompts\[0\] has dtype float64; it must be an integer dtype"),
    ],
)
def test_errors_of_arguments_come_before_the_first_step(prompts, options, error, message):
    model, *_ = small()
    with pytest.raises(error, match=message):
        generate(model, prompts, **{"max_new_tokens": 3} | options)


@pytest.mark.parametrize("prompt", [[], np.array([[1, 2]]), [[1], [2, 3]], [11], "a", None, [1.0]])
def test_complete_names_its_prompt(prompt):
    model, *_ = small()
    with pytest.raises((ValueError, TypeError, IndexError), match="^prompt"):
        complete(model, prompt, 1)
    with pytest.raises((ValueError, TypeError, IndexError), match="^prompt"):
        generate_text(model, LETTERS, prompt, 1)


def test_prompts_may_be_arrays():
    model, *_ = small()
    lists = list(generate(model, [[1, 2], [3, 4]], 4, temperature=0))
    assert list(generate(model, np.array([[1, 2], [3, 4]]), 4, temperature=0)) == lists


def test_excluded_ids_are_never_drawn():
    model, *_ = small()
    for temperature in (0, 1.5):
        free = complete(model, [1, 2], 30, temperature=temperature, rng=np.random.default_rng(0))
        excluded = set(free[:3])
        ids = complete(model, [1, 2], 30, temperature=temperature, excluded_ids=excluded, rng=np.random.default_rng(0))
        assert not excluded & set(ids)
    with pytest.raises(ValueError, match="exclude every id"):
        complete(model, [1, 2], 1, excluded_ids=range(11))


def test_the_frequency_penalty_counts_what_was_generated():
    model, *_ = small()
    ids = complete(model, [1, 2, 3], 11, temperature=0, frequency_penalty=1e6)
    assert sorted(ids) == list(range(11)), "each id once, those of the prompt too"
    assert len(set(complete(model, [1, 2, 3], 11, temperature=0, logit_bias={4: 1e6}))) == 1


def test_the_logits_of_each_step_are_accessible():
    model, *_ = small()
    recorded = []
    ids = list(generate(model, [[1, 2], [3]], 3, temperature=0, excluded_ids=[4], on_logits=recorded.append))
    assert len(recorded) == len(ids) == 3
    np.testing.assert_allclose(recorded[0][0], model(np.array([1, 2]))[-1], rtol=1e-9)
    np.testing.assert_allclose(recorded[2][1], model(np.array([3, ids[0][1], ids[1][1]]))[-1], rtol=1e-9)


LETTERS = CharacterTokenizer("abcdefghijk")


def test_a_sequence_ends_with_the_token_that_completes_a_stop_string():
    model, *_ = small()
    free = complete(model, [1, 2, 3], 12, rng=np.random.default_rng(3))
    text = LETTERS.decode(free)
    for size in (1, 2, 3):
        string = text[4 : 4 + size]
        end = text.index(string) + size
        options = {"stop_strings": [string], "rng": np.random.default_rng(3)}
        assert complete(model, [1, 2, 3], 12, tokenizer=LETTERS, **options) == free[:end]
        options["rng"] = np.random.default_rng(3)
        parts = list(generate_text(model, LETTERS, [1, 2, 3], 12, **options))
        assert "".join(parts) == text[: end - size]


def test_the_prompt_is_not_searched_for_stop_strings():
    model, *_ = small()
    free = complete(model, [1, 1, 1], 3, temperature=0)
    string = "b" + LETTERS.decode(free[:1])
    assert complete(model, [1, 1, 1], 3, temperature=0, stop_strings=[string], tokenizer=LETTERS) == free


@settings(max_examples=15)
@given(st.lists(st.tuples(st.lists(st.integers(0, 10), max_size=4), st.integers(1, 4)), min_size=1, max_size=4))
def test_a_chat_uses_the_key_value_cache_of_the_messages_before(rounds):
    model, *_ = small()
    next_logits, ids = NextLogits(model), [1]
    for new, num_tokens in rounds:
        ids = ids + new
        answer = complete(model, ids, num_tokens, temperature=0, next_logits=next_logits)
        assert answer == complete(model, ids, num_tokens, temperature=0)
        ids = ids + answer


def test_of_a_prompt_that_begins_with_the_cached_ids_only_the_rest_is_computed():
    model, *_ = small()
    next_logits = NextLogits(model)
    next_logits([[1, 2, 3, 4]])
    assert next_logits.num_computed == 4
    for ids, computed in (([1, 2, 3, 4, 5, 6], 2), ([1, 2, 9], 1), ([1, 2, 9], 1), ([5, 2], 2)):
        logits = next_logits([ids])
        assert next_logits.num_computed == computed
        np.testing.assert_allclose(logits[0], model(np.array(ids))[-1], rtol=1e-9)


def test_an_interrupted_step_leaves_no_wrong_cache(monkeypatch):
    model, *_ = small()
    next_logits = NextLogits(model)
    next_logits([[1, 2]])
    forward = type(model.h[1]).forward

    def interrupted(self, *a, **k):
        if self in (model.h[1], model.h[0].mlp):
            raise KeyboardInterrupt
        return forward(self, *a, **k)

    with monkeypatch.context() as patch:
        patch.setattr(type(model.h[1]), "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next_logits([[1, 2, 3, 4]])
    next_logits([[1, 2]])
    with monkeypatch.context() as patch:
        patch.setattr("npllm.models.one_position._feed_forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next_logits([[1, 2, 3]])
    np.testing.assert_allclose(next_logits([[1, 2, 3]])[0], model(np.array([1, 2, 3]))[-1], rtol=1e-9)


def test_a_layer_that_does_not_keep_every_column_is_not_truncated():
    cache = ModelKVCache(8, [KVCache(), SlidingWindowKVCache(2)])
    assert not cache.truncate(0)
    full = ModelKVCache(8, [KVCache()])
    full.layers[0].append(np.ones((1, 2, 5, 3)))
    assert full.truncate(3) and full.length == 3
    assert not full.truncate(4)

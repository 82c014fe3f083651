import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, pretokenize, train_bpe
from npllm.tokenizers.byte_pair.merge import merge_by_rank, merge_by_rank_heap
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.byte_pair.train import merge_pair
from npllm.tokenizers.vectorized.incremental_training import learn_merges
from tests.strategies import few_letters, texts
from tests.tokenizers.fuzzing import random_ranks
from tests.tokenizers.peers import gpt2, gpt2_tiktoken, tiktoken_encoding

BYTES = [bytes([byte]) for byte in range(256)]


@st.composite
def rank_tables(draw):
    """Ranks that no training would give: any byte strings, in any order."""
    extra = draw(st.lists(st.binary(min_size=2, max_size=5).map(lambda b: bytes(97 + x % 3 for x in b)), unique=True))
    return {token: rank for rank, token in enumerate([*BYTES, *extra])}


def merge_one_at_a_time(piece, ranks):
    """The rule, spelled out without any thought of speed."""
    tokens = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        candidates = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(tokens)) if a + b in ranks]
        if not candidates:
            return tokens
        _, i = min(candidates)
        tokens = [*tokens[:i], tokens[i] + tokens[i + 1], *tokens[i + 2 :]]


class TestMerging:
    @given(rank_tables(), st.text("abc", max_size=40))
    def test_both_ways_follow_the_rule_on_any_table(self, ranks, text):
        piece = text.encode()
        expected = merge_one_at_a_time(piece, ranks)
        assert merge_by_rank(piece, ranks) == expected
        assert merge_by_rank_heap(piece, ranks) == expected

    @pytest.mark.parametrize("seed", range(20))
    def test_the_heap_merges_as_the_plain_way_does(self, seed):
        draw = random.Random(seed)
        ranks = random_ranks(draw)
        for _ in range(50):
            piece = bytes(draw.choices(b"abcd", k=draw.choice((0, 1, 2, 5, 20, 60))))
            assert merge_by_rank_heap(piece, ranks) == merge_by_rank(piece, ranks)

    def test_by_rank_and_not_from_the_left(self):
        ranks = {token: rank for rank, token in enumerate([*BYTES, b"bc", b"ab"])}
        assert merge_by_rank(b"abc", ranks) == merge_by_rank_heap(b"abc", ranks) == [b"a", b"bc"]

    @pytest.mark.parametrize("letters", ["a", "abcdefghijklmnopqrstuvwxyz"])
    def test_a_long_piece_takes_n_log_n_steps(self, letters):
        class Counting(dict):
            lookups = 0

            def get(self, *args):
                self.lookups += 1
                return super().get(*args)

        ranks = Counting(gpt2().ranks)
        lookups = []
        for length in (2_000, 16_000):
            ranks.lookups = 0
            merge_by_rank_heap("".join(random.Random(0).choices(letters, k=length)).encode(), ranks)
            lookups.append(ranks.lookups)
        assert lookups[1] < 8 * 1.2 * lookups[0]  # eight times the length; n² would be 64 times the steps

    def test_a_piece_of_a_million_letters(self):
        text = "".join(random.Random(0).choices("etaoinshrdlu", k=1_000_000))
        ids = gpt2().encode(text)
        assert gpt2().decode(ids) == text
        assert ids == gpt2_tiktoken().encode(text)

    def test_a_million_blanks_before_a_letter(self):
        text = " " * 1_000_000 + "x"  # tiktoken panics here
        assert gpt2().decode(gpt2().encode(text)) == text


class TestTraining:
    @given(st.lists(few_letters, max_size=6), st.integers(0, 30))
    def test_encoding_the_training_text_gives_the_tokens_of_training(self, parts, num_merges):
        text = "".join(parts)
        tokenizer = train_bpe(text, 256 + num_merges)
        words = [[bytes([byte]) for byte in piece.encode()] for piece in pretokenize(text)]
        for merge in learn_merges([piece.encode() for piece in pretokenize(text)], num_merges):
            words = [merge_pair(word, (merge.left, merge.right)) for word in words]
        assert tokenizer.encode(text) == [tokenizer.ranks[token] for word in words for token in word]

    @given(st.lists(few_letters | texts, max_size=6), st.integers(0, 60))
    def test_merges_are_recovered_from_the_ranks(self, parts, num_merges):
        pieces = [piece.encode("utf-8", "replace") for part in parts for piece in pretokenize(part)]
        merges = learn_merges(pieces, num_merges)
        tokens = [*BYTES, *(merge.token for merge in merges)]
        tokenizer = BPETokenizer({token: rank for rank, token in enumerate(tokens)})
        assert tokenizer.merges() == [(merge.left, merge.right) for merge in merges]

    @given(texts, texts, st.integers(0, 40))
    def test_any_trained_vocabulary_gives_tiktokens_ids(self, training_text, text, num_merges):
        tokenizer = train_bpe(training_text, 257 + num_merges, special_tokens=["<|endoftext|>"])
        twin = tiktoken_encoding(tokenizer)
        for one in (training_text, text):
            assert tokenizer.encode_ordinary(one) == twin.encode_ordinary(one)
            assert tokenizer.encode(one, allowed_special="all") == twin.encode(one, allowed_special="all")

    def test_special_tokens_are_cut_out_and_come_last(self):
        tokenizer = train_bpe("<|x|>abab<|x|>abab", 258, special_tokens=["<|x|>"])
        assert tokenizer.special_tokens == {"<|x|>": 257}
        assert max(tokenizer.ranks, key=tokenizer.ranks.get) == b"ab"
        assert tokenizer.vocab_size == 258

    def test_an_iterable_of_texts_is_no_less_than_one_text(self):
        parts = ["low lower", "newest", "lowest newest"]
        assert train_bpe(iter(parts), 270).ranks == train_bpe(parts, 270).ranks
        assert train_bpe(parts, 270).ranks != train_bpe("".join(parts), 270).ranks  # no merge crosses two texts

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tie_break": "last"}, "tie_break is 'last'; it must be 'first' or 'id'"),
            ({"pattern": "("}, "pattern is '\\('; it must be a regular expression"),
            ({"special_tokens": [""]}, "special_tokens contains the empty text"),
            ({"vocab_size": 200}, "vocab_size is 200; it must be at least 256"),
        ],
    )
    def test_what_is_wrong_is_said_before_a_text_is_read(self, options, message):
        def texts():
            raise AssertionError("read before it was checked")
            yield

        with pytest.raises(ValueError, match=message):
            train_bpe(texts(), **{"vocab_size": 300, **options})

    def test_a_text_without_pairs_gives_the_bytes(self):
        assert train_bpe("", 1000).vocab_size == 256

    def test_no_room(self):
        with pytest.raises(ValueError, match="vocab_size is 256; it must be at least 257"):
            train_bpe("text", 256, special_tokens=["<|x|>"])


class TestText:
    @given(texts)
    def test_gpt2s_ids_are_tiktokens(self, text):
        assert gpt2().encode_ordinary(text) == gpt2_tiktoken().encode_ordinary(text)

    @given(texts, st.sampled_from([set(), {"<|endoftext|>"}, "all"]), st.sampled_from([(), {"<|endoftext|>"}, "all"]))
    def test_special_tokens_mean_what_they_mean_in_tiktoken(self, text, allowed, disallowed):
        options = {"allowed_special": allowed, "disallowed_special": disallowed}
        try:
            expected = gpt2_tiktoken().encode(text, **options)
        except ValueError:
            with pytest.raises(ValueError, match="the text contains the special token"):
                gpt2().encode(text, **options)
        else:
            assert gpt2().encode(text, **options) == expected

    @given(texts)
    def test_any_text_survives_a_round_trip(self, text):
        repaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        assert gpt2().decode(gpt2().encode(text, disallowed_special=())) == repaired
        assert gpt2().decode(gpt2().encode(text, allowed_special="all")) == repaired

    @given(st.binary(max_size=50) | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
    def test_any_bytes_survive_a_round_trip(self, data):
        assert gpt2().decode_bytes(gpt2().encode_bytes(data)) == data

    @given(texts)
    def test_bytes_of_a_text_get_the_ids_of_the_text(self, text):
        assert gpt2().encode_bytes(text.encode("utf-8", "replace")) == gpt2().encode_ordinary(
            text.encode("utf-8", "replace").decode()
        )

    @given(st.lists(st.integers(0, 50256), max_size=20))
    def test_any_ids_decode_as_in_tiktoken(self, ids):
        assert gpt2().decode(ids) == gpt2_tiktoken().decode(ids)
        assert gpt2().decode_bytes(ids) == gpt2_tiktoken().decode_bytes(ids)

    @given(st.lists(texts, max_size=4))
    def test_a_batch_is_its_texts(self, batch):
        options = {"allowed_special": "all"}
        assert gpt2().encode_batch(batch, **options) == [gpt2().encode(text, **options) for text in batch]

    @given(st.lists(texts, max_size=4), st.sampled_from([set(), {"<|endoftext|>"}]))
    def test_long_texts_with_special_tokens_go_the_fast_way_together(self, batch, allowed):
        long = "some words and more of them <|endoftext|> " * 200
        batch = [*batch, long, "".join(batch).join([long, long])]
        options = {"allowed_special": allowed, "disallowed_special": ()}
        assert gpt2()._encoder.vectorized is not None  # built now: long texts are encoded by it
        expected = [gpt2_tiktoken().encode(replace_surrogates(text), **options) for text in batch]
        assert gpt2().encode_batch(batch, **options) == expected
        assert [gpt2().encode(text, **options) for text in batch] == expected
        assert [gpt2().encode_to_numpy(text, **options).tolist() for text in batch] == expected

    def test_bytes_are_ids_too_however_many(self):
        assert gpt2().decode_bytes(bytes(300)) == gpt2().decode_bytes([0] * 300) == b"!" * 300

    def test_half_a_character_is_replaced_or_refused(self):
        half = gpt2().encode("é")[:1] if len(gpt2().encode("é")) > 1 else gpt2().encode_bytes("é".encode()[:1])
        assert gpt2().decode(half) == "\ufffd"
        with pytest.raises(UnicodeDecodeError):
            gpt2().decode(half, errors="strict")

    def test_numpy_arrays_of_ids(self):
        import numpy as np

        assert gpt2().decode(np.array(gpt2().encode("Hello there"), np.uint16)) == "Hello there"

    def test_remembered_pieces_are_bounded(self, monkeypatch):
        monkeypatch.setattr("npllm.tokenizers.byte_pair.encode.MAX_CACHED", 10)
        tokenizer = BPETokenizer({token: rank for rank, token in enumerate(BYTES)})
        text = " ".join(map(str, range(100)))
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert len(tokenizer._encoder.plain._cache) <= 10


class TestSpecialTokens:
    def tokenizer(self):
        ranks = {token: rank for rank, token in enumerate(BYTES)}
        return BPETokenizer(ranks, special_tokens={"<|a|>": 300, "<|a|>b": 301, "<|c|>": 302})

    def test_the_default_refuses_and_says_what_to_do(self):
        with pytest.raises(ValueError, match="the text contains the special token") as caught:
            gpt2().encode("one<|endoftext|>two")
        for advice in (
            "allowed_special={'<|endoftext|>'}",
            "special_tokens.keys() - {'<|endoftext|>'}",
            "disallowed_special=()",
        ):
            assert advice in str(caught.value)

    def test_a_text_is_repaired_before_they_are_looked_for(self):
        ranks = {token: rank for rank, token in enumerate(BYTES)}
        tokenizer = BPETokenizer(ranks, special_tokens={"<\U0001f600>": 300})
        text = "a<\ud83d\ude00>b"
        assert tokenizer.encode(text, allowed_special="all") == [97, 300, 98]
        assert tokenizer.encode_batch([text], allowed_special="all") == [[97, 300, 98]]
        assert tiktoken_encoding(tokenizer).encode(text, allowed_special="all") == [97, 300, 98]

    def test_a_text_is_no_set_of_special_tokens(self):
        for option in ("allowed_special", "disallowed_special"):
            with pytest.raises(TypeError, match=f"{option} is the text '<.x.>'; it must be 'all' or a set"):
                gpt2().encode("a", **{option: "<|x|>"})

    def test_the_longest_of_several_wins(self):
        assert self.tokenizer().encode("<|a|>b<|a|>", allowed_special="all") == [301, 300]

    def test_some_allowed_some_plain(self):
        tokenizer = self.tokenizer()
        ids = tokenizer.encode("<|c|><|a|>", allowed_special={"<|c|>"}, disallowed_special=())
        assert ids == [302, *b"<|a|>"]
        with pytest.raises(ValueError, match=r"<\|a\|>"):
            tokenizer.encode("<|c|><|a|>", allowed_special={"<|c|>"})

    def test_disallowed_wins_over_allowed(self):
        with pytest.raises(ValueError, match="the text contains the special token"):
            gpt2().encode("<|endoftext|>", allowed_special="all", disallowed_special={"<|endoftext|>"})

    def test_the_end_of_a_segment_counts_as_the_end_of_the_text(self):
        ids = gpt2().encode("a  <|endoftext|>  b", allowed_special="all")
        assert ids == gpt2_tiktoken().encode("a  <|endoftext|>  b", allowed_special="all")
        assert gpt2().encode("  ")[0] in ids

    def test_vocab_size_is_the_highest_id_plus_one(self):
        assert self.tokenizer().vocab_size == 303
        assert gpt2().vocab_size == 50257


def test_bad_arguments():
    ranks = {token: rank for rank, token in enumerate(BYTES)}
    with pytest.raises(ValueError, match="ranks has no token for byte 7"):
        BPETokenizer({token: rank for token, rank in ranks.items() if token != b"\x07"})
    with pytest.raises(ValueError, match="one id to several tokens"):
        BPETokenizer(ranks, special_tokens={"<|x|>": 0})
    with pytest.raises(ValueError, match="the empty token"):
        BPETokenizer(ranks, special_tokens={"": 300})
    tokenizer = BPETokenizer(ranks)
    with pytest.raises(TypeError, match="text is bytes; it must be a str"):
        tokenizer.encode(b"abc")
    with pytest.raises(TypeError, match="text is NoneType"):
        tokenizer.encode_ordinary(None)
    with pytest.raises(TypeError, match="texts is a single str"):
        tokenizer.encode_batch("abc")
    for bad in (256, -1):
        with pytest.raises(KeyError, match=f"id {bad} is not in the vocabulary; ids are below 256"):
            tokenizer.decode([65, bad])
    with pytest.raises(ValueError, match=r"token b'abc' \(id 256\) is not the union of two tokens"):
        BPETokenizer(ranks | {b"abc": 256}).merges()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train_bpe(["a", b"a"], 260), TypeError, "text is bytes; it must be a str"),
        (lambda: train_bpe("aaa", 260, special_tokens="<x>"), TypeError, "special_tokens is the text '<x>'"),
        (lambda: train_bpe("aaa", 260, special_tokens=["<x>", "<x>"]), ValueError, "each must be given once"),
        (
            lambda: train_bpe("aaa", 260).decode([[97, 98]]),
            TypeError,
            r"ids is \[\[97, 98\]\]; it must be a flat sequence",
        ),
    ],
)
def test_errors_name_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_forgetting_changes_no_ids():
    tokenizer = train_bpe("low lower lowest " * 5, 270)
    before = tokenizer.encode("lowest lower")
    tokenizer.clear_cache()
    assert tokenizer.encode("lowest lower") == before

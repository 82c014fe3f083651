"""Ids to text in parts, invalid bytes, and what is removed at the beginning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.character_bpe.decode import Decoding, IncrementalDecoder, decode_run

TEXTS = {0: "▁", 1: "▁a", 2: "b", 3: "", 4: "▁▁"} | {10 + i: bytes([b]) for i, b in enumerate("é€".encode() + b"\xff ")}
DECODINGS = [
    Decoding(rule, strip, num_spaces, in_bytes)
    for rule in ("run", "characters")
    for strip, num_spaces in (
        ("none", 0), ("spaces", 1), ("spaces", 3), ("first token", 0), ("prefix", 0), ("leading", 0),
    )
    for in_bytes in (False, True)
]  # fmt: skip


@given(st.sampled_from(DECODINGS), st.lists(st.lists(st.sampled_from(sorted(TEXTS)), max_size=3), max_size=8))
def test_the_parts_make_up_the_text(decoding, parts):
    whole, by_parts = IncrementalDecoder(TEXTS, decoding), IncrementalDecoder(TEXTS, decoding)
    expected = whole.push([token_id for part in parts for token_id in part]) + whole.finish()
    assert "".join(map(by_parts.push, parts)) + by_parts.finish() == expected
    assert whole.push([1]) + whole.finish() == by_parts.push([1]) + by_parts.finish()  # finish has reset both


@pytest.mark.parametrize(
    ("strip", "num_spaces", "ids", "expected"),
    [
        ("none", 0, [0, 1, 2], "  ab"),
        ("spaces", 1, [0, 1, 2], " ab"),
        ("spaces", 9, [3, 0, 4, 1, 0, 2], "a b"),
        ("spaces", 1, [4, 2], " b"),
        ("first token", 0, [4, 1, 2], " ab"),
        ("first token", 0, [3, 1], " a"),
        ("prefix", 0, [3, 0, 1, 2], " ab"),
        ("prefix", 0, [2, 1], "b a"),
        ("leading", 0, [0, 3, 0, 1, 0, 2], "a b"),
        ("leading", 0, [4, 1], "  a"),
    ],
)
def test_the_beginning(strip, num_spaces, ids, expected):
    decoder = IncrementalDecoder(TEXTS, Decoding("run", strip, num_spaces))
    assert decoder.push(ids) + decoder.finish() == expected


@pytest.mark.parametrize(
    ("data", "run", "characters"),
    [
        ("aé€".encode(), "aé€", "aé€"),
        (b"\xc3", "\ufffd", "\ufffd"),
        ("é".encode() + b"\xff", "\ufffd" * 3, "é\ufffd"),
        (b"\xe2\x82a", "\ufffd" * 3, "\ufffd\ufffda"),
    ],
)
def test_invalid_bytes(data, run, characters):
    assert (decode_run(data, "run"), decode_run(data, "characters")) == (run, characters)
    assert decode_run(data, "run", "ignore") == data.decode(errors="ignore")


def test_a_long_run_of_invalid_bytes():
    assert decode_run(b"\xff" * 100_000, "characters") == decode_run(b"\xff" * 100_000, "run") == "\ufffd" * 100_000


def test_an_unknown_id_changes_nothing():
    decoder = IncrementalDecoder(TEXTS, Decoding())
    assert decoder.push([10]) == ""
    with pytest.raises(KeyError):
        decoder.push([11, 99])
    assert decoder.push([11]) + decoder.finish() == "é"

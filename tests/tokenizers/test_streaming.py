"""StreamDecoder: the parts make up the text, and no part ends inside a character."""

from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import StreamDecoder
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from tests.strategies import texts
from tests.tokenizers.peers import gpt2

EVERY = {"disallowed_special": ()}
any_ids = st.lists(st.integers(0, 50256) | st.sampled_from([*range(188, 256), 40, 220]), max_size=30)


@given(any_ids, st.data())
def test_all_pieces_make_up_the_text(ids, data):
    decoder, parts, place = StreamDecoder(gpt2()), [], 0
    while place < len(ids):
        number = data.draw(st.integers(1, 3))
        parts.append(decoder.push(ids[place] if number == 1 else ids[place : place + number]))
        place += number
    assert "".join([*parts, decoder.finish()]) == gpt2().decode(ids)


@given(texts)
def test_never_half_a_character(text):
    decoder, text = StreamDecoder(gpt2()), replace_surrogates(text)
    parts = [decoder.push(token_id) for token_id in gpt2().encode(text, **EVERY)]
    assert "".join(parts) == text
    assert decoder.finish() == ""


def test_after_finish_it_begins_anew():
    decoder, half = StreamDecoder(gpt2()), gpt2().encode_bytes("é".encode()[:1])
    assert (decoder.push(half), decoder.finish(), decoder.finish()) == ("", "\ufffd", "")
    assert decoder.push(gpt2().encode("é")) == "é"

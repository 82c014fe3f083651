import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npllm.tokenizers.byte_pair.pretokenize import PATTERNS, pretokenize
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized import blocks
from npllm.tokenizers.vectorized.blocks import group_texts, join_into_block, split_into_blocks
from npllm.tokenizers.vectorized.pretoken_table import PADDING
from npllm.tokenizers.vectorized.pretokenizers import PRETOKENIZERS
from tests.strategies import texts
from tests.tokenizers.vectorized.pretokens import awkward

patterns = st.sampled_from(list(PATTERNS.values()))
some_texts = texts.map(replace_surrogates)


def pretokens_of(block):
    data, ends = block.data.tobytes(), block.starts + block.lengths
    assert data.endswith(PADDING)
    return [data[start:end].decode() for start, end in zip(block.starts.tolist(), ends.tolist())]


@given(awkward | some_texts, patterns, st.integers(1, 20))
def test_blocks_have_the_pretokens_of_the_text(text, pattern, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_SIZE", size)
        found = [
            pretoken for block in split_into_blocks(text, PRETOKENIZERS[pattern]) for pretoken in pretokens_of(block)
        ]
    assert found == pretokenize(text, pattern)


@given(st.lists(awkward | some_texts, min_size=1, max_size=6), patterns)
@example(["a  ", "b"], PATTERNS["gpt2"])
@example([" \n ", ""], PATTERNS["cl100k"])
def test_a_joined_block_has_the_pretokens_of_its_texts(batch, pattern):
    block, separators = join_into_block(batch, PRETOKENIZERS[pattern])
    found, ends = pretokens_of(block), [-1, *separators.tolist()]
    assert [found[i] for i in separators] == ["\n"] * len(batch)
    assert [found[a + 1 : b] for a, b in zip(ends, ends[1:])] == [pretokenize(text, pattern) for text in batch]


@given(st.lists(st.text("a", max_size=12), max_size=12), st.integers(1, 20))
def test_groups_are_consecutive_texts_of_at_most_one_block(batch, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_SIZE", size)
        groups = list(group_texts(batch))
    assert [text for group in groups for text in group] == batch
    assert all(len(group) == 1 or len("\n".join(group)) <= size for group in groups)

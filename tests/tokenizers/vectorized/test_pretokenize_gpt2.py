import re
from itertools import pairwise

import numpy as np
from hypothesis import given

from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, pretokenize
from npllm.tokenizers.vectorized import pretokenize_gpt2
from npllm.tokenizers.vectorized.pretokenize_gpt2 import gpt2_starts
from tests.tokenizers.vectorized.pretokens import awkward, picture, split


@given(awkward)
def test_pretokens_are_those_of_the_regular_expression(text):
    assert split(gpt2_starts, text) == pretokenize(text, GPT2_PATTERN)


def test_contractions():
    for ending in ("s", "d", "m", "t", "ll", "ve", "re", "S", "l", "x", "\u017f", ""):
        for text in (f"it'{ending}", f"it'{ending} ", f"'{ending}'{ending}", f" '{ending}x"):
            assert split(gpt2_starts, text) == pretokenize(text, GPT2_PATTERN)


def test_the_picture_in_the_docstring():
    text, rows = picture(pretokenize_gpt2)
    written = re.findall(r"^    [1-4] .*?(\".*)$", pretokenize_gpt2.__doc__, re.MULTILINE)
    starts = set()
    for row, pretokens in zip(rows, written):
        starts = (starts | row["|"]) - row["×"]
        ends = [*sorted(starts), len(text)]
        assert [text[low:high] for low, high in pairwise(ends)] == re.findall(r'"(.*?)"', pretokens)
    assert sorted(starts) == gpt2_starts(np.array(list(map(ord, text)))).tolist()
    assert len(rows) == len(written) == 4

"""The text that ships with the project, as character ids."""

from functools import lru_cache

import numpy as np

from npllm.tokenizers.characters import CharacterTokenizer
from npllm.utils import corpora


@lru_cache
def shipped_ids() -> tuple[np.ndarray, int]:
    """The ids of the characters, and their number      (N)"""
    text = corpora.read("story")
    tokenizer = CharacterTokenizer.from_text(text)
    return np.array(tokenizer.encode(text)), tokenizer.vocab_size

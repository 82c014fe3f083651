"""Train a byte pair encoding: text → vocabulary, as a BPETokenizer.

    text → special tokens removed → pre-tokens and their counts → [merges] → ranks

Sennrich, Haddow, Birch 2016, section 3.2; on bytes: Radford et al. 2019 (GPT-2), section 2.2.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Literal

from npllm.core.checks import check_special_tokens, check_text
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.byte_pair.bytes_to_unicode import BYTE_ORDER
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, compile_pattern
from npllm.tokenizers.byte_pair.special_tokens import split_on_special
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.byte_pair.train import Merge
from npllm.tokenizers.vectorized.incremental_training import check_tie_break, learn_merges
from npllm.tokenizers.vectorized.pretoken_counts import count_pretokens


def train_bpe(
    text: str | Iterable[str],
    vocab_size: int,
    pattern: str = GPT2_PATTERN,
    special_tokens: Sequence[str] = (),
    on_merge: Callable[[Merge], object] | None = None,
    tie_break: Literal["first", "id"] = "first",
) -> BPETokenizer:
    """Train a vocabulary of `vocab_size` tokens on a text, or on an iterable of texts.

    text            the text; no merge crosses from one text of an iterable into the next
    vocab_size      tokens: the 256 bytes come first, then the merges, last the special tokens; there are fewer if the
                    text runs out of pairs
    pattern         regular expression that splits the text into pre-tokens
    special_tokens  texts that split the training text and are never merged
    on_merge        called with each Merge when it is found
    tie_break       among pairs of equal count, "first" merges the one that comes first in the text; "id" the one with
                    the lowest ids, the bytes numbered in GPT-2's order: Hugging Face's merges and, without special
                    tokens, its ids

    All arguments are checked before the text is read. Raises ValueError for a vocab_size below the number of bytes and
    special tokens, an unknown tie_break, an invalid pattern or an empty special token, and TypeError if a text is not a
    str.
    """
    special_tokens = check_special_tokens(special_tokens)
    if "" in special_tokens:
        raise ValueError("special_tokens contains the empty text, which matches everywhere")
    compile_pattern(pattern)
    check_tie_break(tie_break)
    smallest = 256 + len(special_tokens)
    if isinstance(vocab_size, bool) or not hasattr(vocab_size, "__index__"):
        raise TypeError(f"vocab_size is {vocab_size!r}; it must be an integer")
    num_merges = operator.index(vocab_size) - smallest
    if num_merges < 0:
        raise ValueError(f"vocab_size is {vocab_size}; it must be at least {smallest}, for bytes and special tokens")
    texts = [text] if isinstance(text, str) else text
    ordinary = chain.from_iterable(_ordinary_texts(frozenset(special_tokens), text) for text in texts)
    merges = learn_merges(count_pretokens(ordinary, pattern), num_merges, on_merge, tie_break)
    tokens = [bytes([byte]) for byte in (BYTE_ORDER if tie_break == "id" else range(256))]
    tokens += [merge.token for merge in merges]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    special_ids = {token: len(tokens) + index for index, token in enumerate(special_tokens)}
    return BPETokenizer(ranks, pattern, special_ids, merges=[(merge.left, merge.right) for merge in merges])


def _ordinary_texts(special_tokens, text):
    """The parts of a text between its special tokens."""
    check_text("text", text)
    return split_on_special(special_tokens, replace_surrogates(text))[0]

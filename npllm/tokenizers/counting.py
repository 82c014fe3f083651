"""Count the tokens of a text, and truncate a text to a token budget.

    text → [ids, block by block] → a number, or a shorter text

Both read the ids block by block and keep no more than they need. A text is truncated before the first character of a
token, at a position in the text as it is given, whether or not it is normalized. What remains need not have as many
tokens as are before this position: encoded by itself, its end may be split differently ("  x" begins with " ", but "  "
is one token), even into more tokens. So the shorter text is encoded again, and shortened further until it fits.
"""

import operator
from collections.abc import Iterable, Sized

from npllm.core.checks import check_text
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates

CHARS_PER_TOKEN = 8  # more than most texts have
MARGIN = 64  # tokens at the end of a part of a text, whose ids may differ from those of the whole text


def count_tokens(blocks: Iterable[Sized]) -> int:
    """The number of ids in blocks of ids."""
    return sum(map(len, blocks))


def truncate(tokenizer, text: str, max_tokens: int, **options) -> str:
    """The longest beginning of a text that ends with a whole character and has at most `max_tokens` tokens.

    `options` as for `tokenizer.encode`; with `add_special_tokens`, the ids around the text count. Encodes no more of
    the text than is needed. Raises ValueError for a max_tokens that is negative, or less than the ids around the text.
    """
    check_text("text", text)
    max_tokens = operator.index(max_tokens)
    if max_tokens < 0:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 0")
    if options.get("add_special_tokens"):
        max_tokens -= len(tokenizer.prefix_ids) + len(tokenizer.suffix_ids)
        if max_tokens < 0:
            raise ValueError("max_tokens is less than the number of the ids that add_special_tokens puts around a text")
    options = {**options, "add_special_tokens": False}
    num_tokens = 0
    for block in tokenizer.encode_blocks(text, **options):
        num_tokens += len(block)
        if num_tokens > max_tokens:
            return _shorten(tokenizer, text, max_tokens, options)
    return text


def _shorten(tokenizer, text, max_tokens, options):
    """The result of truncate for a text with more than `max_tokens` tokens."""
    text = replace_surrogates(text)
    window = CHARS_PER_TOKEN * (max_tokens + MARGIN)
    while True:  # find the positions of the first tokens, without those of all of a long text
        _, offsets = tokenizer.encode_with_offsets(text[:window], **options)
        if len(offsets) >= max_tokens + MARGIN or window >= len(text):
            break
        window *= 2
    for num_tokens in range(max_tokens, -1, -1):
        shorter = text[: offsets[num_tokens, 0]]  # what is before the first token that is left out
        if tokenizer.count(shorter, **options) <= max_tokens:
            return shorter
    return ""

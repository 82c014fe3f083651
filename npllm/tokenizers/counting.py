"""Count the tokens of a text, and truncate a text to a token budget.

    text → [ids, block by block] → a number, or a shorter text

Both read the ids block by block and keep no more than they need. A text that is truncated after its n-th token need not
have n tokens: encoded by itself, its end may be split differently ("  x" begins with " ", but "  " is one token), even
into more tokens. So the shorter text is encoded again, and shortened further until it fits.
"""

import codecs
import operator
from collections.abc import Iterable, Sized

from npllm.core.checks import check_text
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates


def count_tokens(blocks: Iterable[Sized]) -> int:
    """The number of ids in blocks of ids."""
    return sum(map(len, blocks))


def truncate(tokenizer, text: str, max_tokens: int, **options) -> str:
    """The longest beginning of a text that ends with a whole character and has at most `max_tokens` tokens.

    `options` as for `tokenizer.encode`. Encodes no more of the text than is needed. Raises ValueError for a negative
    max_tokens, and if the tokens do not make up the text because the pattern leaves out part of it.
    """
    check_text("text", text)
    max_tokens = operator.index(max_tokens)
    if max_tokens < 0:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 0")
    ids = []
    for block in tokenizer.encode_blocks(text, **options):
        ids += list(block[: max_tokens + 1 - len(ids)])
        if len(ids) > max_tokens:
            break
    else:
        return text
    whole = replace_surrogates(text)
    for num_tokens in range(max_tokens, 0, -1):
        shorter = codecs.getincrementaldecoder("utf-8")().decode(tokenizer.decode_bytes(ids[:num_tokens]))
        if not whole.startswith(shorter):
            raise ValueError("the pattern leaves out part of the text, so its tokens do not make up the text")
        if tokenizer.count(shorter, **options) <= max_tokens:
            return shorter
    return ""

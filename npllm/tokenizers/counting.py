"""How many tokens has a text, and how much of it fits into so many?

    text → [ids, block by block] → a number, or a shorter text

Both read the ids as they come. A text that is cut behind its n-th token need not have n tokens: encoded by itself, its
end may be cut differently ("  x" begins with " ", but "  " is one token), and even into more of them. So the shorter
text is encoded again, and shortened further until it fits.
"""

import codecs
import operator

from npllm.core.checks import check_text
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates


def count_tokens(blocks):
    """The number of ids in blocks of them."""
    return sum(map(len, blocks))


def truncate(tokenizer, text, max_tokens, **options):
    """The text up to the end of its last whole character within `max_tokens` tokens, so that it has no more of them.

    Reads no more of the ids than are needed; `options` as for encode. Raises ValueError for a negative number, and if
    the tokens do not make up the text, as with a pattern that leaves out some of it.
    """
    check_text("text", text)
    max_tokens = operator.index(max_tokens)
    if max_tokens < 0:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 0")
    ids = []
    for block in tokenizer.blocks(text, **options):
        ids += list(block[: max_tokens + 1 - len(ids)])
        if len(ids) > max_tokens:
            break
    else:
        return text
    whole = replace_surrogates(text)
    for number in range(max_tokens, 0, -1):
        shorter = codecs.getincrementaldecoder("utf-8")().decode(tokenizer.decode_bytes(ids[:number]))
        if not whole.startswith(shorter):
            raise ValueError("the pattern leaves out part of the text, so its tokens do not say where to cut it")
        if tokenizer.count(shorter, **options) <= max_tokens:
            return shorter
    return ""

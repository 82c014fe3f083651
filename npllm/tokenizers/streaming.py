"""Decode ids as they are generated, without printing incomplete characters.

    ids → bytes → [complete characters]

A token may end inside a character: "é" has two bytes, an emoji four, and each byte may be a token of its own. Decoded
one by one, such tokens would appear as U+FFFD. So bytes are held back until the character is complete.
"""

import codecs
from collections.abc import Iterable


class StreamDecoder:
    """Ids to text, incrementally: the results of push and finish, joined, are tokenizer.decode of all ids.

    tokenizer  a tokenizer with decode_bytes
    errors     what to do with invalid UTF-8, as for bytes.decode: "replace" (U+FFFD), "strict", "ignore", …
    """

    def __init__(self, tokenizer, errors: str = "replace"):
        self.tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)

    def push(self, ids: int | Iterable[int]) -> str:
        """The characters that one more id, or several, complete; raises KeyError for an unknown id."""
        ids = ids if hasattr(ids, "__iter__") else [ids]
        return self._decoder.decode(self.tokenizer.decode_bytes(ids))

    def finish(self) -> str:
        """What remains at the end: U+FFFD for an incomplete character, otherwise nothing. Resets the decoder."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest

"""Decode ids as they are generated, without printing incomplete characters.

    ids → bytes → [complete characters]

A token may end inside a character: "é" has two bytes, an emoji four, and each byte may be a token of its own. Decoded
one by one, such tokens would appear as U+FFFD. So bytes are held back until the character is complete.

Decoding may also depend on what came before: a vocabulary that puts a space before every text removes one from the
first token. Such a tokenizer has an `incremental_decoder` of its own.
"""

import codecs
from collections.abc import Iterable


class StreamDecoder:
    """Ids to text, incrementally: the results of push and finish, joined, are tokenizer.decode of all ids.

    tokenizer  a tokenizer with incremental_decoder(errors), or with decode_bytes
    errors     what to do with invalid UTF-8, as for bytes.decode: "replace" (U+FFFD), "strict", "ignore", …
    """

    def __init__(self, tokenizer, errors: str = "replace"):
        self.tokenizer = tokenizer
        has_own = hasattr(tokenizer, "incremental_decoder")
        self._decoder = tokenizer.incremental_decoder(errors) if has_own else _BytesDecoder(tokenizer, errors)

    def push(self, ids: int | Iterable[int]) -> str:
        """The characters that one more id, or several, complete; raises KeyError for an unknown id."""
        return self._decoder.push(ids if hasattr(ids, "__iter__") else [ids])

    def finish(self) -> str:
        """What remains at the end: U+FFFD for an incomplete character, otherwise nothing. Resets the decoder."""
        return self._decoder.finish()


class _BytesDecoder:
    """An incremental decoder for a tokenizer whose tokens are bytes."""

    def __init__(self, tokenizer, errors):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)

    def push(self, ids):
        """The characters that the ids complete."""
        return self._decoder.decode(self._tokenizer.decode_bytes(ids))

    def finish(self):
        """What remains at the end; resets the decoder."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest

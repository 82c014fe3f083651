"""Text that appears token by token, and never half a character.

    ids → bytes → [characters, as soon as they are whole]

A token may end within a character: "é" is two bytes, an emoji four, and each byte may be a token of its own. Decoded
one by one, such tokens would show as U+FFFD. So bytes are held back until the character that they begin is complete.
"""

import codecs


class StreamDecoder:
    """Ids in, text out; all that push and finish return, joined, is what tokenizer.decode gives for all ids."""

    def __init__(self, tokenizer, errors="replace"):
        self.tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)

    def push(self, ids):
        """The text that one more id, or several, complete; raises KeyError for an id that no token has."""
        ids = ids if hasattr(ids, "__iter__") else [ids]
        return self._decoder.decode(self.tokenizer.decode_bytes(ids))

    def finish(self):
        """What is left at the end: U+FFFD for a character that never came whole, else nothing. Then begin anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest

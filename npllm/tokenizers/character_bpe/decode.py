"""Ids to text: tokens are joined, ▁ becomes a space, and byte tokens become characters.

    ids → tokens and bytes → [text]

Byte tokens in a row are decoded together. Where they are not UTF-8, the libraries differ, and so do the rules here:

    "run"         Hugging Face: if a run of byte tokens is not valid UTF-8, each of its bytes becomes U+FFFD
    "characters"  SentencePiece: the valid characters in the run are decoded, each other byte becomes U+FFFD

An encoder that puts a space before every text needs a decoder that removes it. A decoder therefore treats the first
token differently, and decoding in parts needs to know what came before: `IncrementalDecoder` does.

Hugging Face, tokenizers: documentation of the decoders; SentencePiece, sentencepiece_processor.cc (Decode).
"""

import codecs
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

SPACE_SYMBOL = "▁"  # U+2581, stands for a space in tokens

BYTE_BY_BYTE = "npllm.byte_by_byte"  # the name of an error handler for bytes.decode, see below
InvalidBytes = Literal["run", "characters"]
Strip = Literal["none", "spaces", "first token", "prefix", "leading"]


@dataclass(frozen=True)
class Decoding:
    """How tokens become text.

    invalid_bytes  which bytes become U+FFFD, "run" or "characters", see above; None: byte tokens are ordinary text
    strip          what is removed at the beginning:
                   "none"; "spaces": up to `num_spaces` spaces of the text; "first token": every ▁ of the first token;
                   "prefix": a ▁ at the beginning of the first token that is not empty; "leading": a ▁ at the beginning
                   of each token until the text is no longer empty
    num_spaces     for strip="spaces"
    replaces_in_bytes  True if ▁ becomes a space in the text of byte tokens, too
    """

    invalid_bytes: InvalidBytes | None = "run"
    strip: Strip = "none"
    num_spaces: int = 0
    replaces_in_bytes: bool = False


class IncrementalDecoder:
    """Decodes ids part by part: the results of `push` and `finish`, joined, are the text of all ids.

    A run of byte tokens is held back until another token follows, because only then it is known to be valid.

    token_texts  dict from ids to tokens (str), or to bytes for byte tokens
    decoding     a Decoding
    errors       "replace" (by the rule of `decoding`), or another value for bytes.decode
    """

    def __init__(self, token_texts: Mapping[int, str | bytes], decoding: Decoding, errors: str = "replace"):
        self.token_texts, self.decoding, self.errors = token_texts, decoding, errors
        self.reset()

    def reset(self) -> None:
        """Forget all earlier ids: the next one is the first of a text."""
        self._run = b""
        self._at_start = self.decoding.strip != "none"  # True while something at the beginning may have to be removed
        self._num_spaces = self.decoding.num_spaces

    def push(self, ids: Iterable[int]) -> str:
        """The text that further ids complete. Raises KeyError for an id that has no token, and changes nothing then."""
        tokens = [self.token_texts[token_id] for token_id in ids]
        parts = []
        for is_bytes, group in groupby(tokens, lambda token: isinstance(token, bytes)):
            if is_bytes:
                self._run += b"".join(token for token in group if isinstance(token, bytes))
                continue
            parts.append(self._end_run())
            texts = [token for token in group if isinstance(token, str)]
            texts = [self._strip(text) if self._at_start else text for text in texts]
            parts.append("".join(texts).replace(SPACE_SYMBOL, " "))
        return "".join(parts)

    def finish(self) -> str:
        """The text of the byte tokens at the end. Resets the decoder."""
        text = self._end_run()
        self.reset()
        return text

    def _end_run(self):
        """The text of the byte tokens that were held back."""
        data, self._run = self._run, b""
        if not data:
            return ""
        text = decode_run(data, self.decoding.invalid_bytes, self.errors)
        if self.decoding.replaces_in_bytes:
            return (self._strip(text) if self._at_start else text).replace(SPACE_SYMBOL, " ")
        if self._at_start and self.decoding.strip == "spaces":
            return self._strip_spaces(text)
        self._at_start = False
        return text

    def _strip(self, token):
        """A token at the beginning without what has to be removed."""
        strip = self.decoding.strip
        if strip == "spaces":
            return self._strip_spaces(token.replace(SPACE_SYMBOL, " "))
        if strip == "first token":
            self._at_start = False
            return token.replace(SPACE_SYMBOL, "")
        stripped = token.removeprefix(SPACE_SYMBOL)
        self._at_start = not stripped and (strip == "leading" or stripped == token)
        return stripped

    def _strip_spaces(self, text):
        """A text at the beginning without the spaces that still have to be removed."""
        num_spaces = min(self._num_spaces, len(text) - len(text.lstrip(" ")))
        self._num_spaces -= num_spaces
        self._at_start = num_spaces == len(text) and self._num_spaces > 0
        return text[num_spaces:]


def decode_run(data: bytes, rule: InvalidBytes | None, errors: str = "replace") -> str:
    """The text of byte tokens in a row; see above. `errors` other than "replace" have the meaning of bytes.decode."""
    if errors != "replace":
        return data.decode("utf-8", errors)
    if rule == "characters":
        return data.decode("utf-8", BYTE_BY_BYTE)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(data)


def _byte_by_byte(error):
    """U+FFFD for the first invalid byte, and the position at which decoding continues."""
    return "\ufffd", error.start + 1


codecs.register_error(BYTE_BY_BYTE, _byte_by_byte)

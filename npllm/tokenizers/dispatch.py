"""Choose between the plain and the vectorized implementation by the length of the input. The results are the same.

    text → [plain, for short texts | vectorized, for long texts] → ids

NumPy's calls have a fixed cost that pays off from a certain length on, and the tables of the vectorized encoder take a
fraction of a second to build. The thresholds below were measured with GPT-2's vocabulary (`python -m benchmarks`).
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from npllm.tokenizers.byte_pair.encode import PlainEncoder
from npllm.tokenizers.vectorized.decode import Decoder
from npllm.tokenizers.vectorized.encode import Encoder, make_encoder

MIN_CHARS = 4000  # characters of a text from which the vectorized encoder is faster
MIN_CHARS_NON_ASCII = 8000  # the same for other text: pre-tokens of several bytes are merged more often
MIN_CHARS_TO_BUILD = 1 << 18  # characters whose plain encoding takes as long as building the vectorized encoder
MIN_IDS = 200  # ids from which the vectorized decoder is faster


class AdaptiveEncoder:
    """The plain encoder for short texts, the vectorized one for long texts.

    The vectorized encoder is built when long texts of MIN_CHARS_TO_BUILD characters in all have been encoded without
    it. There is none for a pattern outside of `pretokenize.PATTERNS`; then all texts take the plain one.
    """

    def __init__(self, plain: PlainEncoder, merges: Sequence[tuple[bytes, bytes]] | None = None):
        self.plain, self._merges = plain, merges
        self._vectorized: Encoder | None = None
        self._is_built = False
        self._num_long_chars = 0  # characters of long texts, counted until the vectorized encoder is built

    @property
    def vectorized(self) -> Encoder | None:
        """The vectorized encoder, built now if necessary; None if this vocabulary or pattern has none."""
        if not self._is_built:
            self._vectorized = make_encoder(self.plain, self._merges)
            self._is_built = True
        return self._vectorized

    def select(self, num_chars: int, is_ascii: bool = True) -> PlainEncoder | Encoder:
        """The faster encoder for a text of this length. Counts the characters towards MIN_CHARS_TO_BUILD."""
        if num_chars < (MIN_CHARS if is_ascii else MIN_CHARS_NON_ASCII):
            return self.plain
        if not self._is_built:
            self._num_long_chars += num_chars
            if self._num_long_chars < MIN_CHARS_TO_BUILD:
                return self.plain
        return self.plain if self.vectorized is None else self.vectorized

    def encode_blocks(self, text: str) -> Iterable[list[int] | np.ndarray]:
        """The ids of a text without special tokens and surrogates, block by block."""
        return self.select(len(text), text.isascii()).encode_blocks(text)

    def clear_cache(self) -> None:
        """Empty the caches of both encoders."""
        self.plain.clear_cache()
        if self._vectorized is not None:
            self._vectorized.clear_cache()

    def __getstate__(self):
        """For pickle: without the vectorized encoder, which is built again when it is needed."""
        return {**self.__dict__, "_vectorized": None, "_is_built": False}


class AdaptiveDecoder:
    """A dict lookup for few ids, the vectorized decoder for many.

    token_bytes  dict from ids to the bytes of the tokens
    """

    def __init__(self, token_bytes: dict[int, bytes]):
        self._token_bytes = token_bytes
        self._vectorized: Decoder | None = None

    @property
    def ids(self) -> Collection[int]:
        """The ids of all tokens."""
        return self._token_bytes.keys()

    @property
    def vectorized(self) -> Decoder:
        """The vectorized decoder, built now if necessary."""
        if self._vectorized is None:
            self._vectorized = Decoder(self._token_bytes)
        return self._vectorized

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of the ids, any iterable of integers; raises KeyError with the first unknown id, or TypeError."""
        has_length = hasattr(ids, "__len__") and getattr(ids, "ndim", 1) > 0 and not isinstance(ids, (bytes, bytearray))
        if has_length and len(ids) >= MIN_IDS:  # type: ignore[arg-type]
            decoded = self.vectorized.decode(ids)  # type: ignore[arg-type]
            if decoded is not None:
                return decoded
        try:
            ids = ids.tolist() if hasattr(ids, "tolist") else list(ids)
            if not all(kind is int or issubclass(kind, np.integer) for kind in set(map(type, ids))):
                raise TypeError  # 1.0 and True are equal to the key 1
            return b"".join([self._token_bytes[token_id] for token_id in ids])
        except TypeError:
            raise TypeError(f"ids is {ids!r:.60}; it must be a flat sequence of integers") from None

    def __getstate__(self):
        """For pickle: without the vectorized decoder."""
        return {**self.__dict__, "_vectorized": None}

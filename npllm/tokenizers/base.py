"""What all tokenizers have in common: `encode`, `encode_ordinary`, `decode`, and the size of the vocabulary.

    text → [tokenizer] → ids

A tokenizer defines `encode`, `decode`, `vocab_size` and `__len__`. The rest follows from them.
"""

from collections.abc import Collection, Iterable
from os import PathLike


class Tokenizer:
    """Base class: the names that other libraries use, and `repr`.

    special_tokens  dict from special tokens (str) to ids; empty for a tokenizer without special tokens
    prefix_ids      ids that a model expects before a text, such as that of <s>; `add_special_tokens=True` adds them
    suffix_ids      ids that a model expects after a text
    vocab_size      the highest id plus one, the number of rows that an embedding needs
    """

    special_tokens: dict[str, int] = {}
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        raise NotImplementedError(f"{type(self).__name__} must define encode")

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which special tokens are ordinary text (tiktoken's name)."""
        return self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a sequence of ids."""
        raise NotImplementedError(f"{type(self).__name__} must define decode")

    def token_ids(self) -> Collection[int]:
        """The ids that have a token, as a collection that `in` searches fast; ids below `vocab_size` may be unused."""
        return range(self.vocab_size)

    def save(self, path: str | PathLike) -> None:
        """Write the vocabulary to a file; the formats are those of the tokenizer's class."""
        raise NotImplementedError(f"{type(self).__name__} must define save")

    @property
    def n_vocab(self) -> int:
        """The highest id plus one, the number of rows that an embedding needs: `vocab_size` under tiktoken's name."""
        return self.vocab_size

    def __repr__(self):
        details = "".join(f", {name}={value!r}" for name, value in self._details().items())
        return f"{type(self).__name__}(n_vocab={self.n_vocab}{details})"

    def _details(self):
        """What `repr` shows besides the size of the vocabulary."""
        return {}

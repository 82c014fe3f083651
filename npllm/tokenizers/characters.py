"""The smallest tokenizer that can encode a whole text: every distinct character is a token.

    "hello" → h e l l o → ids in the order of the code points

Unlike `words`, it loses nothing and has an id for everything in the training text. But sequences are long, and a model
has to learn spelling first. Characters outside of the training text have no id; byte pair encoding (`bpe`) starts from
bytes instead and so encodes any text.

Karpathy 2015, The Unreasonable Effectiveness of Recurrent Neural Networks.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from npllm.core.checks import check_text
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.formats.hugging_face_characters import (
    from_characters_json,
    is_characters_json,
    to_characters_json,
)
from npllm.tokenizers.formats.reading import parse_json, reading_vocabulary
from npllm.utils.file_errors import FileError
from npllm.utils.files import atomic_write

FORMAT = "npllm characters"


class CharacterTokenizer(Tokenizer):
    """Characters to ids and back.

    characters  the vocabulary, a text without repetitions; a character's id is its index
    """

    def __init__(self, characters: str):
        check_text("characters", characters)
        if len(set(characters)) != len(characters):
            repeated = next(character for character in characters if characters.count(character) > 1)
            raise ValueError(f"characters has {repeated!r} more than once; each character must be given once")
        self.characters = characters
        self._ids = {character: index for index, character in enumerate(characters)}

    @classmethod
    def from_text(cls, text: str) -> "CharacterTokenizer":
        """A tokenizer for the characters of a text, in the order of their code points."""
        check_text("text", text)
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        """The number of characters."""
        return len(self.characters)

    def __len__(self):
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; raises KeyError for the first character that is not in the vocabulary."""
        check_text("text", text)
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise KeyError(
                f"{error.args[0]!r} is not among the {self.vocab_size} characters of the vocabulary"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; raises KeyError for an id outside of the vocabulary."""
        ids = list(ids)
        for token_id in ids:
            if not 0 <= token_id < self.vocab_size:
                raise KeyError(f"id {token_id} is not in the vocabulary; ids are below {self.vocab_size}")
        return "".join(self.characters[token_id] for token_id in ids)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The text of the ids in UTF-8, as StreamDecoder needs it."""
        return self.decode(ids).encode("utf-8", "surrogatepass")

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to a *.json file; an interrupted save leaves what was there before.

        tokenizer.json  Hugging Face's format, which transformers reads
        name.json       npllm's own format
        """
        # a list, because in one string JSON would join two lone surrogates to a pair
        content = {"format": FORMAT, "version": 1, "characters": list(self.characters)}
        if Path(path).name == "tokenizer.json":
            content = to_characters_json(self.characters)
        with atomic_write(path) as file:
            file.write(json.dumps(content).encode())

    @classmethod
    def load(cls, path: str | Path) -> "CharacterTokenizer":
        """Read what `save` wrote; raises FileNotFoundError, or ValueError if the file is invalid."""
        with reading_vocabulary(path):
            content = parse_json(path)
            if is_characters_json(content):
                return cls(from_characters_json(content))
            if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != 1:
                raise FileError(path, f'does not contain "format": "{FORMAT}", "version": 1')
            characters = content.get("characters")
            if not isinstance(characters, list) or not all(isinstance(c, str) and len(c) == 1 for c in characters):
                raise FileError(path, "has characters that are not a list of single characters", field="characters")
            return cls("".join(characters))

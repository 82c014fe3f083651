"""The smallest tokenizer that knows a whole text: every distinct character is a token.

    "hello" → h e l l o → ids in the order of the characters' numbers

Over `words`, nothing of the text it was made from is unknown and nothing is lost; but ids say little, and a model has
to learn spelling first. What was not in that text cannot be said: that is what byte pairs change.

Karpathy 2015, The Unreasonable Effectiveness of Recurrent Neural Networks.
"""

import json
from pathlib import Path

from npllm.core.checks import check_text
from npllm.tokenizers.base import Tokenizer
from npllm.utils.files import atomic_write

FORMAT = "npllm characters"


class CharacterTokenizer(Tokenizer):
    """Characters to ids and back; `characters` is a text in which each stands once, at the place of its id."""

    def __init__(self, characters):
        check_text("characters", characters)
        if len(set(characters)) != len(characters):
            raise ValueError("characters has one twice; each must be given once")
        self.characters = characters
        self._ids = {character: index for index, character in enumerate(characters)}

    @classmethod
    def from_text(cls, text):
        """A tokenizer for the characters of a text, in the order of their numbers."""
        check_text("text", text)
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        """The number of characters."""
        return len(self.characters)

    def __len__(self):
        return len(self.characters)

    def encode(self, text):
        """The ids of a text; raises KeyError naming the first character that is not in the vocabulary."""
        check_text("text", text)
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise KeyError(
                f"{error.args[0]!r} is not among the {self.vocab_size} characters of the vocabulary"
            ) from None

    def decode(self, ids):
        """The text of some ids; raises KeyError for an id that no character has."""
        ids = list(ids)
        for token_id in ids:
            if not 0 <= token_id < self.vocab_size:
                raise KeyError(f"id {token_id} belongs to no character; ids are below {self.vocab_size}")
        return "".join(self.characters[token_id] for token_id in ids)

    def save(self, path):
        """Write the vocabulary to a *.json file, whole or not at all."""
        # one by one: in a row, JSON would join the two halves of a surrogate pair
        content = {"format": FORMAT, "version": 1, "characters": list(self.characters)}
        with atomic_write(path) as file:
            file.write(json.dumps(content).encode())

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; raises FileNotFoundError, or ValueError saying what is wrong."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not a vocabulary: {error}") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != 1:
            raise ValueError(f'{path} does not say "format": "{FORMAT}", "version": 1')
        characters = content.get("characters")
        if not isinstance(characters, list) or not all(isinstance(c, str) and len(c) == 1 for c in characters):
            raise ValueError(f"{path} must have characters, a list of them")
        return cls("".join(characters))

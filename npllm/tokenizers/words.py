"""The first tokenizers: split the text at whitespace and punctuation, and number the distinct words.

    [text → tokens → ids] → windows → embedding → …

The pattern is built up in steps: whitespace, then commas and periods, then all punctuation. A vocabulary of words has
no id for a word outside of the training text; byte pair encoding (`bpe`) solves this.

Raschka, sections 2.2 to 2.4.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from npllm.core.checks import check_special_tokens, check_text
from npllm.tokenizers.base import Tokenizer

V1_PATTERN = r'([,.?_!"()\']|--|\s)'  # a colon or semicolon stays attached to the word before it
V2_PATTERN = r'([,.:;?_!"()\']|--|\s)'

UNKNOWN = "<|unk|>"
END_OF_TEXT = "<|endoftext|>"


def split_on_whitespace(text: str) -> list[str]:
    """Split at whitespace and keep it: "Hi, you." → ["Hi,", " ", "you."]."""
    return re.split(r"(\s)", text)


def split_on_commas_and_periods(text: str) -> list[str]:
    """Split at commas and periods as well: "Hi, you." → ["Hi", ",", "", " ", "you", ".", ""]."""
    return re.split(r"([,.]|\s)", text)


def drop_whitespace(tokens: Iterable[str]) -> list[str]:
    """Remove empty tokens and whitespace: ["Hi", ",", "", " ", "you"] → ["Hi", ",", "you"]."""
    return [token for token in tokens if token.strip()]


def split_words(text: str, pattern: str = V2_PATTERN) -> list[str]:
    """The tokens of a text: words and punctuation, without whitespace.

    "Hello, world. Is this-- a test?" → ["Hello", ",", "world", ".", "Is", "this", "--", "a", "test", "?"]
    """
    check_text("text", text)
    return drop_whitespace(re.split(pattern, text))


def build_vocab(text: str, special_tokens: Sequence[str] = (), pattern: str = V2_PATTERN) -> dict[str, int]:
    """A dict from tokens to ids 0 … n − 1: the distinct words of a text in sorted order, then the special tokens.

    A special token in the text (see join_texts) does not count as a word. Raises ValueError if a special token is given
    twice, and TypeError if an argument has the wrong type.
    """
    special_tokens = check_special_tokens(special_tokens)
    words = sorted(set(split_words(text, pattern)) - set(special_tokens))
    return {token: index for index, token in enumerate([*words, *special_tokens])}


def join_texts(*texts: str) -> str:
    """The texts joined by <|endoftext|>, which shows a model where one text ends and the next begins."""
    return f" {END_OF_TEXT} ".join(texts)


class SimpleTokenizerV1(Tokenizer):
    """Words to ids and back, with V1_PATTERN. Words outside of the vocabulary raise KeyError.

    `vocab` is a dict from tokens to ids, as `build_vocab` returns it. A text joined by `join_texts` needs a vocabulary
    with the special token <|endoftext|>.
    """

    pattern = V1_PATTERN

    def __init__(self, vocab: Mapping[str, int]):
        if len(set(vocab.values())) != len(vocab):
            raise ValueError("vocab assigns one id to several tokens; every token needs its own")
        self.token_to_id = dict(vocab)
        self.id_to_token = {index: token for token, index in vocab.items()}

    @property
    def vocab_size(self) -> int:
        """The highest id plus one."""
        return max(self.id_to_token, default=-1) + 1

    def __len__(self):
        return len(self.token_to_id)

    def encode(self, text: str) -> list[int]:
        """The ids of the words of a text; raises KeyError for the first word that is not in the vocabulary."""
        return [self._id(token) for token in split_words(text, self.pattern)]

    def _id(self, token):
        if token not in self.token_to_id:
            raise KeyError(
                f"{token!r} is not among the {len(self.token_to_id)} tokens of the vocabulary; "
                f"SimpleTokenizerV2 would encode it as {UNKNOWN}"
            )
        return self.token_to_id[token]

    def decode(self, ids: Iterable[int]) -> str:
        """The words joined by spaces, none before punctuation; raises KeyError for an id outside of the vocabulary."""
        ids = list(ids)
        missing = [index for index in ids if index not in self.id_to_token]
        if missing:
            raise KeyError(f"id {missing[0]} is not in the vocabulary, which has {len(self.id_to_token)} tokens")
        text = " ".join(self.id_to_token[index] for index in ids)
        return re.sub(r"\s+([,.:;?!\"()'])", r"\1", text)


class SimpleTokenizerV2(SimpleTokenizerV1):
    """SimpleTokenizerV1 with V2_PATTERN and the token <|unk|> for words outside of the vocabulary.

    The vocabulary must have <|unk|>, for instance `build_vocab(text, ["<|endoftext|>", "<|unk|>"])`.
    """

    pattern = V2_PATTERN

    def __init__(self, vocab: Mapping[str, int]):
        if UNKNOWN not in vocab:
            raise ValueError(f"vocab has no {UNKNOWN}; add it with build_vocab(text, ['{END_OF_TEXT}', '{UNKNOWN}'])")
        super().__init__(vocab)

    def _id(self, token):
        return self.token_to_id.get(token, self.token_to_id[UNKNOWN])

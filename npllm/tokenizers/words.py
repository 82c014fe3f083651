"""The first tokenizers: cut the text at blanks and punctuation, and give every distinct word a number.

    [text → tokens → ids] → windows → embedding → …

The cut is built up in the steps in which one finds out what is missing: blanks, then commas and periods, then the
other marks. What these tokenizers cannot do, speak a word that they have never seen, leads on to `bpe`.

Raschka, sections 2.2 to 2.4.
"""

import re

from npllm.core.checks import check_special_tokens, check_text
from npllm.tokenizers.base import Tokenizer

# The notes' first pattern; a colon or semicolon stays on the word before it.
V1_PATTERN = r'([,.?_!"()\']|--|\s)'
# The full pattern, with : and ;
V2_PATTERN = r'([,.:;?_!"()\']|--|\s)'

UNKNOWN = "<|unk|>"
END_OF_TEXT = "<|endoftext|>"


def split_on_whitespace(text):
    """Cut at blanks and keep them: "Hi, you." → ["Hi,", " ", "you."]."""
    return re.split(r"(\s)", text)


def split_on_commas_and_periods(text):
    """Cut at commas and periods, too: "Hi, you." → ["Hi", ",", "", " ", "you", ".", ""]."""
    return re.split(r"([,.]|\s)", text)


def drop_whitespace(tokens):
    """Leave out what is empty or blank: ["Hi", ",", "", " ", "you"] → ["Hi", ",", "you"]."""
    return [token for token in tokens if token.strip()]


def split_words(text, pattern=V2_PATTERN):
    """The tokens of a text: cut at every mark of the pattern, keep the marks, drop the blanks.

    "Hello, world. Is this-- a test?" → ["Hello", ",", "world", ".", "Is", "this", "--", "a", "test", "?"]
    """
    check_text("text", text)
    return drop_whitespace(re.split(pattern, text))


def build_vocab(text, special_tokens=(), pattern=V2_PATTERN):
    """Number the distinct words of a text in alphabetical order, then the special tokens in the order given.

    Returns a dict from token to id, 0 … len − 1. A special token that stands in the text (see join_texts) is no word.
    Raises ValueError if one is given twice, TypeError for what is no text.
    """
    special_tokens = check_special_tokens(special_tokens)
    words = sorted(set(split_words(text, pattern)) - set(special_tokens))
    return {token: index for index, token in enumerate([*words, *special_tokens])}


def join_texts(*texts):
    """Put several texts in a row with <|endoftext|> between, so that a model sees where one ends."""
    return f" {END_OF_TEXT} ".join(texts)


class SimpleTokenizerV1(Tokenizer):
    """Words to ids and back, with the notes' first pattern; it knows the words of its vocabulary and no others.

    `vocab` maps tokens to ids, as `build_vocab` returns it. A text joined by `join_texts` needs a vocabulary with
    the special token <|endoftext|>.
    """

    pattern = V1_PATTERN

    def __init__(self, vocab):
        if len(set(vocab.values())) != len(vocab):
            raise ValueError("vocab has one id for several tokens; every token needs an id of its own")
        self.token_to_id = dict(vocab)
        self.id_to_token = {index: token for token, index in vocab.items()}

    @property
    def vocab_size(self) -> int:
        """The highest id plus one."""
        return max(self.id_to_token, default=-1) + 1

    def __len__(self):
        return len(self.token_to_id)

    def encode(self, text):
        """The ids of the text's words; raises KeyError naming the first word that is not in the vocabulary."""
        return [self._id(token) for token in split_words(text, self.pattern)]

    def _id(self, token):
        if token not in self.token_to_id:
            raise KeyError(
                f"{token!r} is not among the {len(self.token_to_id)} tokens of the vocabulary; "
                f"SimpleTokenizerV2 would encode it as {UNKNOWN}"
            )
        return self.token_to_id[token]

    def decode(self, ids):
        """The words with blanks between, none before a mark; raises KeyError for an id that no token has."""
        ids = list(ids)
        missing = [index for index in ids if index not in self.id_to_token]
        if missing:
            raise KeyError(f"id {missing[0]} belongs to no token; the vocabulary has {len(self.id_to_token)} tokens")
        text = " ".join(self.id_to_token[index] for index in ids)
        return re.sub(r"\s+([,.:;?!\"()'])", r"\1", text)


class SimpleTokenizerV2(SimpleTokenizerV1):
    """V1 with the full pattern and a token for every word that it does not know.

    The vocabulary must have <|unk|>, for instance `build_vocab(text, ["<|endoftext|>", "<|unk|>"])`.
    """

    pattern = V2_PATTERN

    def __init__(self, vocab):
        if UNKNOWN not in vocab:
            raise ValueError(
                f"vocab has no {UNKNOWN}; give it one with build_vocab(text, ['{END_OF_TEXT}', '{UNKNOWN}'])"
            )
        super().__init__(vocab)

    def _id(self, token):
        return self.token_to_id.get(token, self.token_to_id[UNKNOWN])

"""Character-level byte pair encoding, as in SentencePiece: the tokenizers of Llama 2, Mistral, Gemma, Phi-3 and Yi.

    text → [added tokens → normalized text → characters → merges by rank] → ids

Compared with byte-level BPE (`bpe`):

    byte-level BPE                                     character-level BPE
    the symbols are bytes, so any text has tokens      the symbols are characters; one without a token becomes bytes
    a pattern splits the text into pre-tokens          no pre-tokens: a space is the character ▁ at the front of a word
    the text is encoded as it is                       spaces become ▁, and most vocabularies put one before the text
    decoding returns the text                          decoding returns the normalized text

The steps are in `character_bpe`; `SentencePieceTokenizer` puts them together.

Kudo, Richardson 2018, SentencePiece: A simple and language independent subword tokenizer.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from npllm.core.checks import check_text
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.byte_pair.special_tokens import SpecialTokenSet, check_no_special, resolve_special
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.character_bpe.added_tokens import TokenTable, compile_tokens, find_added_tokens
from npllm.tokenizers.character_bpe.decode import SPACE_SYMBOL, IncrementalDecoder
from npllm.tokenizers.character_bpe.encode import CharacterEncoder
from npllm.tokenizers.character_bpe.normalization import Aligned, aligned, normalize, normalize_aligned
from npllm.tokenizers.character_bpe.vocabulary import CharacterVocabulary
from npllm.tokenizers.formats.hugging_face_sentence_piece import from_tokenizer_json_sp
from npllm.tokenizers.formats.hugging_face_sentence_piece_writer import to_tokenizer_json_sp
from npllm.tokenizers.formats.reading import parse_json, read_vocabulary_bytes, reading_vocabulary
from npllm.tokenizers.formats.sentence_piece_model import read_sentence_piece_model
from npllm.utils.files import atomic_write


class SentencePieceTokenizer(Tokenizer):
    """Character-level byte pair encoding with byte_fallback.

    vocabulary  a CharacterVocabulary: tokens, merges, and the steps around them

    `special_tokens` are the added tokens that the file marks as special, or SentencePiece's control symbols. The other
    added tokens, such as Gemma's "\\n\\n", are found in every text.
    """

    def __init__(self, vocabulary: CharacterVocabulary):
        self.vocabulary = vocabulary
        self.prefix_ids, self.suffix_ids = vocabulary.prefix_ids, vocabulary.suffix_ids
        self.special_tokens = {token.text: token.id for token in vocabulary.added_tokens.values() if token.special}
        self._all_special = frozenset(self.special_tokens)
        self._token_texts = vocabulary.texts_by_id()
        self.vocab_size = max(self._token_texts) + 1
        self._needs_pretokens = vocabulary.needs_pretokens()
        self._encoder = CharacterEncoder(
            vocabulary.tokens,
            vocabulary.usable_ranks(),
            vocabulary.byte_ids,
            vocabulary.unk_id,
            vocabulary.fuse_unk,
        )
        self._active: dict[frozenset[str], tuple[TokenTable, TokenTable]] = {}

    def __len__(self):
        """The number of tokens; smaller than `vocab_size` if there are unused ids."""
        return len(self._token_texts)

    def token_ids(self) -> Collection[int]:
        """The ids that have a token."""
        return self._token_texts.keys()

    def _details(self):
        return {"byte_fallback": bool(self.vocabulary.byte_ids), "special_tokens": len(self.special_tokens)}

    def encode(
        self,
        text: str,
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
        add_special_tokens: bool = False,
    ) -> list[int]:
        """The ids of a text.

        allowed_special     special tokens that are encoded as their own id, or "all"
        disallowed_special  special tokens that raise ValueError if the text contains them, or "all": those that are not
                            allowed
        add_special_tokens  True: with `prefix_ids` before and `suffix_ids` after the ids

        All other special tokens are encoded as ordinary text. Raises TypeError if text is not a str.
        """
        text, allowed = self._checked(text, allowed_special, disallowed_special)
        parts = self._parts(text, allowed)
        if self._needs_pretokens:
            ids = [i for part in parts for i in ([part] if isinstance(part, int) else self._encode_pretokens(part))]
        else:
            ids = self._encoder.encode_parts([*parts])
        return [*self.prefix_ids, *ids, *self.suffix_ids] if add_special_tokens else ids

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which special tokens are ordinary text."""
        return self.encode(text, disallowed_special=())

    def encode_batch(self, texts: Iterable[str], **options: Any) -> list[list[int]]:
        """The ids of each text; `options` as for `encode`."""
        if isinstance(texts, str):
            raise TypeError("texts is a single str; it must be a list of texts")
        return [self.encode(text, **options) for text in texts]

    def encode_to_numpy(self, text: str, **options: Any) -> np.ndarray:
        """The ids of `encode` as an array (n,) of int32; `options` as for `encode`."""
        return np.array(self.encode(text, **options), np.int32)

    def encode_blocks(self, text: str, **options: Any) -> Iterator[np.ndarray]:
        """The ids of `encode_to_numpy` as a single block; the counterpart of BPETokenizer's method."""
        yield self.encode_to_numpy(text, **options)

    def encode_with_offsets(
        self,
        text: str,
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
        add_special_tokens: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids of `encode_to_numpy`, (n,), and their offsets in the text, (n, 2) int64.

        The offsets of a token are the first character that it comes from and the one after the last. The ▁ before a
        text has the offsets of the first character. Each byte token of a character has the character. The ids that
        add_special_tokens adds have the offsets (0, 0).
        """
        encodable, allowed = self._checked(text, allowed_special, disallowed_special)
        ids, spans = [], []
        for token, part in self._aligned_parts(encodable, allowed):
            if token is not None:
                ids.append(token.id)
                spans.append((part.starts[0], part.ends[-1]))
                continue
            for token_id, first, end in self._encode_part_with_spans(part.text):
                ids.append(token_id)
                spans.append((part.starts[first], part.ends[end - 1]))
        if add_special_tokens:
            ids = [*self.prefix_ids, *ids, *self.suffix_ids]
            spans = [*[(0, 0)] * len(self.prefix_ids), *spans, *[(0, 0)] * len(self.suffix_ids)]
        offsets = np.array(spans, np.int64).reshape(-1, 2)
        if len(text) != len(encodable):
            offsets = np.array(_positions_with_surrogates(text, encodable))[offsets]
        return np.array(ids, np.int32), offsets

    def count(self, text: str, **options: Any) -> int:
        """The number of ids that `encode` gives; `options` as for `encode`."""
        return len(self.encode(text, **options))

    def truncate(self, text: str, max_tokens: int, **options: Any) -> str:
        """The longest beginning of a text, in whole characters, that ends with a token and has at most `max_tokens`.

        `options` as for `encode`. Raises ValueError for a negative max_tokens.
        """
        if max_tokens < 0:
            raise ValueError(f"max_tokens is {max_tokens}; it must be at least 0")
        ids, offsets = self.encode_with_offsets(text, **options)
        if len(ids) <= max_tokens:
            return text
        for end in dict.fromkeys(offsets[:max_tokens, 1][::-1].tolist()):
            if self.count(text[:end], **options) <= max_tokens:
                return text[:end]
        return ""

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """The text of the ids, as the library of the file decodes them; raises KeyError for an unknown id.

        Byte tokens that are not valid UTF-8 become U+FFFD, or are treated as by bytes.decode with these `errors`.
        """
        decoder = self.incremental_decoder(errors)
        return decoder.push(ids) + decoder.finish()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens, one after another, with spaces for ▁ and with the space before the text."""
        texts = self._token_texts
        try:
            tokens = [texts[token_id] for token_id in _as_list(ids)]
        except KeyError as error:
            raise self._unknown_id(error) from None
        return b"".join(
            token if isinstance(token, bytes) else token.replace(SPACE_SYMBOL, " ").encode() for token in tokens
        )

    def incremental_decoder(self, errors: str = "replace") -> "SentencePieceDecoder":
        """A decoder for ids that come part by part; StreamDecoder uses it."""
        return SentencePieceDecoder(self, errors)

    def clear_cache(self) -> None:
        """Drop all cached segments. This frees memory and changes no ids."""
        self._encoder.clear_cache()

    def save(self, path: str | Path) -> None:
        """Write Hugging Face's tokenizer.json; an interrupted save leaves what was there before.

        SentencePiece merges the leftmost of several pairs with equal scores. tokenizer.json has no equal ranks, so such
        pairs are listed in the order of the vocabulary, as by transformers' converter.
        """
        content = json.dumps(to_tokenizer_json_sp(self.vocabulary), ensure_ascii=False, indent=2).encode()
        with atomic_write(path) as file:
            file.write(content)

    @classmethod
    def load(cls, path: str | Path) -> "SentencePieceTokenizer":
        """Read a tokenizer.json or a SentencePiece model. Raises FileNotFoundError, or ValueError if it is invalid."""
        path = Path(path)
        with reading_vocabulary(path):
            if path.suffix != ".json":
                return cls(read_sentence_piece_model(read_vocabulary_bytes(path), path))
            return cls.from_tokenizer_json(parse_json(path), path)

    @classmethod
    def from_tokenizer_json(cls, content: dict[str, Any], name: str | Path = "the file") -> "SentencePieceTokenizer":
        """The tokenizer of a parsed tokenizer.json. Raises ValueError with everything that npllm cannot read."""
        with reading_vocabulary(name):
            return cls(from_tokenizer_json_sp(content))

    def _checked(self, text, allowed_special, disallowed_special):
        """(text without surrogates, allowed special tokens), after the check for disallowed ones."""
        check_text("text", text)
        allowed, disallowed = resolve_special(self._all_special, allowed_special, disallowed_special)
        text = replace_surrogates(text)
        if disallowed and compile_tokens(frozenset(disallowed)).search(text):
            check_no_special(disallowed, [text])
        return text, allowed

    def _active_tokens(self, allowed):
        """The added tokens that are found in the text as given, and those that are found in the normalized text."""
        if allowed not in self._active:
            early, late = TokenTable(), TokenTable()
            for text, token in self.vocabulary.added_tokens.items():
                if not token.special or token.text in allowed:
                    (late if token.normalized else early)[text] = token
            self._active[allowed] = early, late
        return self._active[allowed]

    def _parts(self, text, allowed):
        """Iterate over the ids of added tokens and the normalized texts between them."""
        early, late = self._active_tokens(allowed)
        normalizer, pre_tokenizer = self.vocabulary.normalizer, self.vocabulary.pre_tokenizer
        for token, first, end in find_added_tokens(early, text):
            if token is not None:
                yield token.id
                continue
            part = normalize(text[first:end], normalizer, first == 0)
            if not late:
                yield normalize(part, pre_tokenizer, first == 0)
                continue
            for late_token, start, stop in find_added_tokens(late, part):
                if late_token is not None:
                    yield late_token.id
                else:
                    yield normalize(part[start:stop], pre_tokenizer, first == start == 0)

    def _aligned_parts(self, text, allowed):
        """The parts with the positions of their characters, added tokens included."""
        early, late = self._active_tokens(allowed)
        for token, first, end in find_added_tokens(early, text):
            part = aligned(text[first:end], first)
            if token is not None:
                yield token, part
                continue
            part = normalize_aligned(part, self.vocabulary.normalizer, first == 0)
            for late_token, start, stop in find_added_tokens(late, part.text):
                inner = Aligned(part.text[start:stop], part.starts[start:stop], part.ends[start:stop])
                if late_token is None:
                    inner = normalize_aligned(inner, self.vocabulary.pre_tokenizer, first == start == 0)
                yield late_token, inner

    def _encode_pretokens(self, text):
        """The ids of a normalized text, pre-token by pre-token."""
        ids = []
        for pretoken in self.vocabulary.pretokens(text):
            token_id = self.vocabulary.tokens.get(pretoken) if self.vocabulary.ignore_merges else None
            ids += self._encoder.encode(pretoken) if token_id is None else (token_id,)
        return ids

    def _encode_part_with_spans(self, text):
        """The ids of a normalized text with their characters in it."""
        if not self._needs_pretokens:
            return self._encoder.encode_with_spans(text)
        spans, start = [], 0
        for pretoken in self.vocabulary.pretokens(text):
            token_id = self.vocabulary.tokens.get(pretoken) if self.vocabulary.ignore_merges else None
            found = self._encoder.encode_with_spans(pretoken) if token_id is None else [(token_id, 0, len(pretoken))]
            spans += [(token_id, start + first, start + end) for token_id, first, end in found]
            start += len(pretoken)
        return spans

    def _unknown_id(self, error):
        return KeyError(f"id {error.args[0]} is not in the vocabulary; ids are below {self.vocab_size}")


class SentencePieceDecoder:
    """Ids to text, part by part: the results of `push` and `finish`, joined, are tokenizer.decode of all ids."""

    def __init__(self, tokenizer: SentencePieceTokenizer, errors: str = "replace"):
        self._tokenizer = tokenizer
        self._decoder = IncrementalDecoder(tokenizer._token_texts, tokenizer.vocabulary.decoding, errors)

    def push(self, ids: Iterable[int]) -> str:
        """The text that further ids complete; raises KeyError for an unknown id."""
        try:
            return self._decoder.push(_as_list(ids))
        except KeyError as error:
            raise self._tokenizer._unknown_id(error) from None

    def finish(self) -> str:
        """The text of byte tokens at the end. Resets the decoder."""
        return self._decoder.finish()


def _as_list(ids):
    return ids.tolist() if hasattr(ids, "tolist") else ids


def _positions_with_surrogates(text, encodable):
    """The position in `text` of each character of `encodable`, in which a pair of surrogates is one character."""
    positions, position = [], 0
    for character in encodable:
        positions.append(position)
        position += 1 if text[position] == character or character == "\ufffd" else 2
    return [*positions, position]

"""BPETokenizer: text to ids by the merges that training found, and back without losing a byte.

    text → pieces → bytes → [merges by rank] → ids

Special tokens cut the text first, the pattern cuts what is between them (`split`), and each piece is merged by itself
(`merging`). The pieces of a long text are merged together (`fast`).

Sennrich, Haddow, Birch 2016, section 3.2; special tokens as in tiktoken.
"""

import operator
from functools import cached_property
from itertools import chain, islice

import numpy as np

from npllm.core.checks import check_special_tokens, check_text
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.byte_pair.bytes_to_unicode import BYTE_ORDER
from npllm.tokenizers.byte_pair.merge import merge_by_rank, merge_by_rank_heap, recover_merges
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS, compile_pattern, pretokenize
from npllm.tokenizers.byte_pair.special_tokens import check_no_special, resolve_special, split_on_special
from npllm.tokenizers.byte_pair.surrogates import is_encodable, replace_surrogates
from npllm.tokenizers.counting import count_tokens, truncate
from npllm.tokenizers.formats import vocabulary_files as bpe_files
from npllm.tokenizers.offsets import offsets_of
from npllm.tokenizers.vectorized.decode import Decoder
from npllm.tokenizers.vectorized.encode import make_encoder
from npllm.tokenizers.vectorized.incremental_training import check_tie_break, learn_merges
from npllm.tokenizers.vectorized.pretoken_counts import count_pieces

LONG_PIECE = 100  # bytes; from here on a heap is faster than looking at all pairs for every merge
REMEMBERED_PIECES = 1 << 17  # pieces whose ids are kept; words repeat
MANY_IDS = 200  # from here on they are decoded by `fast`
LONG_TEXT = 4000  # characters; from here on `fast` is faster, which takes all pieces of a text at once;
LONG_TEXT_BEYOND_ASCII = 8000  # and here for a text with other letters, of which most pieces have many bytes
WORTH_BUILDING = 1 << 18  # characters of long texts; the plain way takes longer for them than building `fast` takes


def train_bpe(text, vocab_size, pattern=GPT2_PATTERN, special_tokens=(), on_merge=None, tie_break="first"):
    """Learn a vocabulary of `vocab_size` tokens from a text, or from an iterable of texts.

    The 256 bytes come first, then the merges, last the special tokens, which are cut out of the text and never
    merged. A text that runs out of pairs gives fewer tokens. `on_merge(merge)` is called after every merge. Among
    pairs of equal count, tie_break="first" takes the one that comes first in the text; tie_break="id" takes the one
    with the lowest ids, the bytes numbered in GPT-2's order: Hugging Face's merges and, without special tokens, its
    ids. All arguments are checked before the text is read. Raises ValueError if vocab_size is smaller than the number
    of bytes and special tokens, for an unknown tie_break, an invalid pattern or an empty special token, and TypeError
    if a text is not a str.
    """
    special_tokens = check_special_tokens(special_tokens)
    if "" in special_tokens:
        raise ValueError("special_tokens has the empty text, which stands everywhere")
    compile_pattern(pattern)
    check_tie_break(tie_break)
    num_merges = operator.index(vocab_size) - 256 - len(special_tokens)
    if num_merges < 0:
        least = 256 + len(special_tokens)
        raise ValueError(f"vocab_size is {vocab_size}; it must be at least {least}, for the bytes and special tokens")
    texts = [text] if isinstance(text, str) else text
    parts = (part for text in texts for part in _between(frozenset(special_tokens), text))
    merges = learn_merges(count_pieces(parts, pattern), num_merges, on_merge, tie_break)
    tokens = [bytes([byte]) for byte in (BYTE_ORDER if tie_break == "id" else range(256))]
    tokens += [merge.token for merge in merges]
    specials = {token: len(tokens) + index for index, token in enumerate(special_tokens)}
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return BPETokenizer(ranks, pattern, specials, merges=[(merge.left, merge.right) for merge in merges])


def _between(special_tokens, text):
    """The parts of a text between its special tokens."""
    check_text("text", text)
    return split_on_special(special_tokens, replace_surrogates(text))[0]


class BPETokenizer(Tokenizer):
    """Byte pair encoding of any text.

    ranks           dict from tokens (byte strings, all 256 single bytes among them) to ids; lower merges first
    pattern         regular expression that cuts the text into pieces; see `split`
    special_tokens  dict from texts to ids outside of `ranks`; they stand for themselves and are never merged
    merges          where they are known, the pairs (left, right) behind the tokens in the order of their ranks; else
                    they are found from the ranks when they are needed

    Raises ValueError for ranks without a byte, ids that are not unique or negative, empty tokens, and a wrong pattern.
    """

    def __init__(self, ranks, pattern=GPT2_PATTERN, special_tokens=None, *, merges=None):
        special_tokens = dict(special_tokens or {})
        missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
        if missing:
            raise ValueError(f"ranks has no token for byte {missing[0]}; every single byte must have one")
        ids = [*ranks.values(), *special_tokens.values()]
        if len(set(ids)) != len(ids):
            raise ValueError("ranks and special_tokens give one id to several tokens; every token needs its own")
        if wrong := [i for i in ids if not isinstance(i, int) or not 0 <= i < 1 << 62]:
            raise ValueError(f"ranks and special_tokens have the id {wrong[0]!r}; ids must be integers, 0 to 2**62 - 1")
        if wrong := [token for token in ranks if not isinstance(token, bytes)]:
            raise ValueError(f"ranks has the token {wrong[0]!r}; tokens must be byte strings")
        for token in special_tokens:
            check_text("a special token", token)
        if "" in special_tokens or b"" in ranks:
            raise ValueError("ranks or special_tokens has the empty token, which stands everywhere")
        if wrong := [token for token in special_tokens if not is_encodable(token)]:
            raise ValueError(f"special_tokens has {wrong[0]!r}; it must be a text without halves of surrogate pairs")
        self.ranks, self.pattern, self.special_tokens = dict(ranks), pattern, special_tokens
        self._every_special = frozenset(special_tokens)
        self._token_bytes = {rank: token for token, rank in ranks.items()}
        self._token_bytes |= {rank: token.encode() for token, rank in special_tokens.items()}
        self._remembered = _Remembered(self._merge)
        self.vocab_size = max(self._token_bytes) + 1  # the highest id plus one: how many rows an embedding needs
        self._merges = merges
        self._characters = 0  # of long texts that were encoded without `fast`
        compile_pattern(pattern)

    def __len__(self):
        """The number of tokens, special tokens included; smaller than `vocab_size` if there are unused ids."""
        return len(self._token_bytes)

    def _details(self):
        names = {pattern: name for name, pattern in PATTERNS.items()}
        return {"pattern": names.get(self.pattern, self.pattern), "special_tokens": len(self.special_tokens)}

    def __getstate__(self):
        """For pickle: without what is built when it is needed."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_fast", "_decoder")}

    def encode(self, text, *, allowed_special=frozenset(), disallowed_special="all"):
        """The ids of a text, as a list.

        What to do where the text reads like a special token (as in tiktoken): those in `allowed_special` become their
        own id, those in `disallowed_special` raise ValueError, all others are plain text. "all" means every special
        token, for disallowed_special those that are not allowed. The default refuses, because a text from outside
        should not be able to speak in control tokens unnoticed. Of allowed ones that begin at one place the longest
        counts (which one, tiktoken leaves to the order of a hash table). What is between them is encoded as by
        encode_ordinary, which says when it goes the fast way. Raises TypeError for what is no text.
        """
        return _joined(self._parts(text, allowed_special, disallowed_special))

    def encode_ordinary(self, text):
        """The ids of a text in which special tokens are plain text.

        A short text goes through the regular expression, and its pieces through a dict. A long one (LONG_TEXT) goes
        through `fast`, in a fraction of the time, if the pattern is one of split.PATTERNS; the ids are the same. The
        tables of `fast` take about as long to build as WORTH_BUILDING characters take without them, and are built when
        there have been so many.
        """
        check_text("text", text)
        return _joined(self._without_special(replace_surrogates(text)))

    def encode_to_numpy(self, text, *, allowed_special=frozenset(), disallowed_special="all"):
        """The ids of `encode` as an array, (number of tokens,), without making a list of them.

        They are int32, or int64 if the vocabulary has ids above that.
        """
        blocks = self.blocks(text, allowed_special=allowed_special, disallowed_special=disallowed_special)
        return np.concatenate([*blocks])

    def encode_with_offsets(self, text, *, allowed_special=frozenset(), disallowed_special="all"):
        """The ids of `encode_to_numpy`, (n,), and their places in the text, (n, 2) int64: first character and end."""
        ids = self.encode_to_numpy(text, allowed_special=allowed_special, disallowed_special=disallowed_special)
        return ids, offsets_of(text, replace_surrogates(text), self._decoder.lengths_of(ids))

    def count(self, text, *, allowed_special=frozenset(), disallowed_special="all"):
        """The number of ids that `encode` gives; they are counted as they come, and not kept."""
        return count_tokens(self.blocks(text, allowed_special=allowed_special, disallowed_special=disallowed_special))

    def truncate(self, text, max_tokens, *, allowed_special=frozenset(), disallowed_special="all"):
        """As much of the beginning of a text as has at most `max_tokens` tokens, in whole characters (see counting)."""
        options = {"allowed_special": allowed_special, "disallowed_special": disallowed_special}
        return truncate(self, text, max_tokens, **options)

    def encode_batch(self, texts, *, allowed_special=frozenset(), disallowed_special="all"):
        """The ids of several texts, as a list of lists. Raises as `encode`.

        Texts of LONG_TEXT characters in all go the fast way together.
        """
        if isinstance(texts, str):
            raise TypeError("texts is a single str; it must be a list of texts")
        texts = list(texts)
        for text in texts:
            check_text("text", text)
        allowed, disallowed = resolve_special(self._every_special, allowed_special, disallowed_special)
        texts = [replace_surrogates(text) for text in texts]
        check_no_special(disallowed, texts)
        if not self._take_the_fast_way(sum(map(len, texts)), LONG_TEXT):
            return [_joined(self._with_special(text, allowed)) for text in texts]
        if not allowed:
            return list(self._fast.batch(texts))
        parts = [split_on_special(allowed, text) for text in texts]
        encoded = self._fast.batch(text for between, _ in parts for text in between)
        return [self._interleaved(islice(encoded, len(between)), found) for between, found in parts]

    @cached_property
    def _decoder(self):
        return Decoder(self._token_bytes)

    @cached_property
    def _fast(self):
        """The encoder of `fast` for this vocabulary, or None where it has none."""
        return make_encoder(self.ranks, self.pattern, self._merges)

    def _take_the_fast_way(self, characters, long):
        """Decide how a text of so many characters is encoded, and count those that wait for `fast` to be built."""
        if characters < long:
            return False
        if "_fast" not in self.__dict__:
            self._characters += characters
            if self._characters < WORTH_BUILDING:
                return False
        return self._fast is not None

    def blocks(self, text, *, allowed_special=frozenset(), disallowed_special="all"):
        """The ids of `encode`, one block of them after the other as they are asked for: arrays as of encode_to_numpy.

        Raises as `encode`, when the first block is asked for.
        """
        dtype = np.int32 if self.vocab_size <= 1 << 31 else np.int64
        for part in self._parts(text, allowed_special, disallowed_special):
            yield np.asarray(part, dtype)

    def _parts(self, text, allowed_special, disallowed_special):
        """The ids of a text, part by part: arrays where they went the fast way, else lists."""
        check_text("text", text)
        allowed, disallowed = resolve_special(self._every_special, allowed_special, disallowed_special)
        text = replace_surrogates(text)
        check_no_special(disallowed, [text])
        return self._with_special(text, allowed) if allowed else self._without_special(text)

    def _with_special(self, text, allowed):
        """The same for a text in which special tokens are allowed: those between them go the fast way together."""
        between, found = split_on_special(allowed, text)
        if not found:
            yield from self._without_special(text)
            return
        fast = self._take_the_fast_way(len(text), LONG_TEXT)
        encoded = self._fast.batch(between) if fast else map(self._by_pieces, between)
        for ids, token in zip(encoded, [*found, None]):
            yield ids
            if token is not None:
                yield [self.special_tokens[token]]

    def _interleaved(self, encoded, found):
        """The ids of texts and of the special tokens between them, as one list."""
        ids = next(encoded)
        for token, more in zip(found, encoded):
            ids += [self.special_tokens[token], *more]
        return ids

    def _without_special(self, text):
        """The same for a text without special tokens and without surrogates."""
        if self._take_the_fast_way(len(text), LONG_TEXT if text.isascii() else LONG_TEXT_BEYOND_ASCII):
            yield from self._fast.blocks(text)
        else:
            yield self._by_pieces(text)

    def _by_pieces(self, text):
        """The ids of a text by a regular expression and a dict of pieces."""
        return list(chain.from_iterable(map(self._remembered.__getitem__, pretokenize(text, self.pattern))))

    def encode_bytes(self, data):
        """The ids of any bytes: what is UTF-8 as the text it is; other bytes as marks, neither letter nor blank.

        tiktoken, which has no public function for this, merges all that is behind the first such byte as one piece.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data is {type(data).__name__}; it must be bytes")
        text = bytes(data).decode("utf-8", errors="surrogateescape")
        if is_encodable(text):
            return self.encode_ordinary(text)
        return self._by_pieces(text)

    def decode(self, ids, errors="replace"):
        """The text of some ids. Bytes that are no valid UTF-8 become U+FFFD, or what bytes.decode makes of `errors`."""
        return self.decode_bytes(ids).decode("utf-8", errors=errors)

    def decode_bytes(self, ids):
        """The bytes of some ids (any iterable of integers); raises KeyError for an id that no token has."""
        has_length = hasattr(ids, "__len__") and getattr(ids, "ndim", 1) > 0 and not isinstance(ids, (bytes, bytearray))
        if has_length and len(ids) >= MANY_IDS and (found := self._decoder.decode(ids)) is not None:
            return found
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        try:
            return b"".join([self._token_bytes[token_id] for token_id in ids])
        except KeyError as error:
            raise KeyError(f"id {error.args[0]} belongs to no token; ids are below {self.vocab_size}") from None
        except TypeError:
            raise TypeError(f"ids is {ids!r:.60}; it must be a row of integers") from None

    def clear_cache(self):
        """Let go of the pieces whose ids are remembered; the next text is encoded as by a new tokenizer."""
        self._remembered.clear()
        if self.__dict__.get("_fast") is not None:
            self._fast.clear_cache()

    def merges(self):
        """The merges behind the vocabulary: a list of (left, right) in the order of their ranks.

        Raises ValueError for a token that no merge of two others can make (see `merging.recover_merges`).
        """
        return recover_merges(self.ranks) if self._merges is None else list(self._merges)

    def save(self, path):
        """Write the vocabulary to a file or folder; an interrupted save leaves what was there before.

        tokenizer.json  Hugging Face's format: everything that gives ids
        name.json       npllm's own format: everything
        name.tiktoken   tiktoken's ranks: neither the pattern nor the special tokens
        a folder        OpenAI's encoder.json and vocab.bpe: ids, merges and special tokens, not the pattern

        OpenAI's encoder and transformers read such a folder with any ids. tiktoken assigns the ids itself, as GPT-2
        does, and so reads only vocabularies trained with tie_break="id" and no special token but <|endoftext|>.
        Raises ValueError, and writes nothing, if the format cannot give the same ids.
        """
        bpe_files.save(path, self)

    @classmethod
    def load(cls, path, pattern=None, special_tokens=None):
        """Read what `save` wrote, or OpenAI's, tiktoken's and Hugging Face's own files.

        `pattern` and `special_tokens` stand in for what the format does not hold: GPT-2's pattern and no special
        tokens unless given. Raises FileNotFoundError, or ValueError saying what is wrong with the file.
        """
        ranks, file_pattern, file_special_tokens = bpe_files.load(path)
        return cls(
            ranks,
            pattern or file_pattern or GPT2_PATTERN,
            file_special_tokens if special_tokens is None else special_tokens,
        )

    def _merge(self, piece):
        if piece in self.ranks:
            return [self.ranks[piece]]
        merge = merge_by_rank if len(piece) < LONG_PIECE else merge_by_rank_heap
        return [self.ranks[token] for token in merge(piece, self.ranks)]


class _Remembered(dict):
    """The ids of pieces (str); words come again and again, so those of short pieces are kept."""

    def __init__(self, merge):
        self.merge = merge

    def __missing__(self, piece):
        data = piece.encode("utf-8", errors="surrogateescape")
        ids = self.merge(data)
        if len(data) < LONG_PIECE:
            if len(self) >= REMEMBERED_PIECES:
                self.clear()
            self[piece] = ids
        return ids


def _joined(parts):
    """One list of the ids in several arrays or lists."""
    ids = []
    for part in parts:
        ids += part.tolist() if isinstance(part, np.ndarray) else part
    return ids

"""SentencePiece's *.model file, a protobuf message, with a BPE model.

    file → fields of the message → tokens with scores and types, trainer_spec, normalizer_spec → CharacterVocabulary

A message of protobuf's wire format is a sequence of fields. Each begins with an integer, number << 3 | type, and the
type says what follows: 0 an integer, 1 eight bytes, 2 a length and as many bytes (a text or an inner message), 5 four
bytes. Integers have seven bits in each byte, the lowest first; the eighth bit says that another byte follows.

A Unigram model, which chooses the segmentation of the highest probability, is another algorithm and is refused.

SentencePiece, sentencepiece_model.proto; Protocol Buffers, Encoding.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.character_bpe.charsmap import SentencePieceNormalizer, read_charsmap
from npllm.tokenizers.character_bpe.decode import Decoding, Strip
from npllm.tokenizers.character_bpe.merge import ranks_of_scores
from npllm.tokenizers.character_bpe.vocabulary import BYTE_TOKEN, CharacterVocabulary

MODEL_TYPES = {1: "Unigram", 2: "BPE", 3: "word", 4: "character"}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of tokens
SIZES = {1: 8, 5: 4}  # bytes of the types of fields with a fixed size
UNK_SURFACE = " \u2047 "  # what SentencePiece decodes the unknown token to


def read_sentence_piece_model(data: bytes, path: str | Path) -> CharacterVocabulary:
    """The vocabulary in the content of a *.model. Raises ValueError, which names the file, if npllm cannot read it."""
    try:
        message = list(read_fields(data))
        tokens = [_token(value) for number, value in message if number == 1]
        trainer, normalizer = (dict(read_fields(_last(message, number, b""))) for number in (2, 3))
        return _vocabulary(tokens, trainer, normalizer)
    except ValueError as error:
        raise ValueError(f"{path} is not a SentencePiece model that npllm can read: {error}") from None


def read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and an int or bytes. Raises ValueError if the message is damaged."""
    if not isinstance(data, bytes):
        raise ValueError(f"a message is {data!r}; it must be bytes")
    position = 0
    value: int | bytes
    while position < len(data):
        key, position = _read_varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _read_varint(data, position)
        else:
            if kind == 2:
                size, position = _read_varint(data, position)
            else:
                size = SIZES.get(kind, -1)
            if size < 0 or number == 0:
                raise ValueError(f"byte {position} begins a field of type {kind} and number {number}, which is invalid")
            if size > len(data) - position:
                raise ValueError(f"a field needs {size} bytes at byte {position}, and the message has {len(data)}")
            value, position = data[position : position + size], position + size
        yield number, value


def _read_varint(data, position):
    """(an integer, the position behind it)."""
    if position < len(data) and data[position] < 0x80:
        return data[position], position + 1
    value = 0
    for shift in range(0, 70, 7):
        if position == len(data):
            raise ValueError(f"the message ends inside an integer, after {len(data)} bytes")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"the integer before byte {position} has more than ten bytes")


def _token(data):
    """(text, score, type) of a token."""
    fields = dict(read_fields(data))
    score = fields.get(2, bytes(4))
    if not isinstance(score, bytes) or len(score) != 4:
        raise ValueError(f"the score of a token is {score!r}; it must be a float")
    score = struct.unpack("<f", score)[0]
    if score != score:
        raise ValueError("the score of a token is nan")
    return _text(fields.get(1, b"")), score, _int(fields, 3, NORMAL)


def _vocabulary(tokens, trainer, normalizer):
    """The vocabulary of the tokens, the trainer_spec and the normalizer_spec of a file."""
    if not tokens:
        raise ValueError("it has no tokens")
    obstacles = []
    model_type = _int(trainer, 3, 1)
    if model_type != 2:
        obstacles.append(f"its model_type is {MODEL_TYPES.get(model_type, model_type)}; npllm can read BPE")
    if _int(trainer, 24, 0):
        obstacles.append("treat_whitespace_as_suffix is true; npllm can read false")
    if obstacles:
        raise ValueError("; ".join(obstacles))
    steps = SentencePieceNormalizer(
        read_charsmap(normalizer.get(2, b"")),
        add_dummy_prefix=bool(_int(normalizer, 3, 1)),
        remove_extra_whitespaces=bool(_int(normalizer, 4, 1)),
        escape_whitespaces=bool(_int(normalizer, 5, 1)),
        protected=tuple(text for text, _, kind in tokens if kind == USER_DEFINED),
    )
    bos, surface = _text(trainer.get(46, b"<s>")), _text(trainer.get(44, UNK_SURFACE.encode()))
    return vocabulary_of_tokens(tokens, steps, bool(_int(trainer, 35, 0)), bos, surface)


def vocabulary_of_tokens(
    tokens: list[tuple[str, float, int]],
    normalizer: SentencePieceNormalizer,
    byte_fallback: bool,
    bos: str | None = None,
    unk_surface: str = UNK_SURFACE,
) -> CharacterVocabulary:
    """The vocabulary of tokens (text, score, type) in the order of their ids.

    bos          the control token that `add_special_tokens=True` puts before a text, if there is one
    unk_surface  what the unknown token is decoded to

    Raises ValueError for tokens that are not unique, not exactly one of type UNKNOWN, and missing byte tokens.
    """
    ids = _ids(tokens)
    by_type = defaultdict(list)
    for text, _, kind in tokens:
        by_type[kind].append(text)
    byte_ids = _byte_ids(by_type[BYTE], ids, byte_fallback)
    if len(by_type[UNKNOWN]) != 1:
        raise ValueError(f"it has {len(by_type[UNKNOWN])} tokens of type UNKNOWN; it must have one")
    unk_id = ids[by_type[UNKNOWN][0]]
    ranks = ranks_of_scores({text: score for text, score, kind in tokens if kind in (NORMAL, USER_DEFINED, UNUSED)})
    unused = set(by_type[UNUSED])
    if reached := [left + right for left, right in ranks if left + right in unused]:
        raise ValueError(
            f"the token {reached[0]!r} is of type UNUSED; npllm can read such tokens if no merges lead to them"
        )
    strip: Strip = (
        "leading" if normalizer.remove_extra_whitespaces else "prefix" if normalizer.add_dummy_prefix else "none"
    )
    return CharacterVocabulary(
        tokens=ids,
        ranks=ranks,
        byte_ids=byte_ids,
        unk_id=unk_id,
        fuse_unk=True,
        normalizer=(normalizer,),
        added_tokens={
            **{text: AddedToken(text, ids[text]) for text in by_type[CONTROL]},
            **{text: AddedToken(text, ids[text], special=False, normalized=True) for text in by_type[USER_DEFINED]},
        },
        decoding=Decoding("characters" if byte_fallback else None, strip),
        token_texts={unk_id: unk_surface, **{ids[text]: "" for text in by_type[CONTROL]}},
        prefix_ids=(ids[bos],) if bos is not None and bos in by_type[CONTROL] else (),
    )


def _ids(tokens):
    """A dict from tokens to ids; an id is the index in the file."""
    if not tokens:
        raise ValueError("it has no tokens")
    ids = {text: index for index, (text, _, _) in enumerate(tokens)}
    if "" in ids:
        raise ValueError(f"token {ids['']} is the empty text")
    if len(ids) != len(tokens):
        repeated = next(text for index, (text, _, _) in enumerate(tokens) if ids[text] != index)
        raise ValueError(f"the token {repeated!r} occurs more than once")
    if wrong := [kind for _, _, kind in tokens if not NORMAL <= kind <= BYTE]:
        raise ValueError(f"a token has type {wrong[0]}; types are 1 to 6")
    return ids


def _byte_ids(tokens, ids, has_bytes):
    matches = {text: BYTE_TOKEN.fullmatch(text) for text in tokens}
    if wrong := [text for text, match in matches.items() if not match]:
        raise ValueError(f"the byte token {wrong[0]!r} must have the form <0xE4>")
    byte_ids = {int(match[1], 16): ids[text] for text, match in matches.items() if match}
    if len(byte_ids) != (256 if has_bytes else 0):
        wanted = "256 with" if has_bytes else "none without"
        raise ValueError(f"it has {len(byte_ids)} byte tokens; it must have {wanted} byte_fallback")
    return byte_ids


def _last(message, number, default):
    """The last field of a number: a later field replaces an earlier one."""
    return next((value for other, value in reversed(message) if other == number), default)


def _int(fields, number, default):
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is {value!r:.40}; it must be an integer")
    return value


def _text(data):
    if not isinstance(data, bytes):
        raise ValueError(f"a text is {data!r}; it must be bytes")
    return data.decode()

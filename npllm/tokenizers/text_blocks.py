"""Read a text file in blocks whose boundaries never change the tokenization.

    [file → blocks of text] → pre-tokens → bytes → ids

A file that is larger than memory is read in parts. A part that ended anywhere could end inside a character, a word or a
special token, and would be tokenized differently there. So a block ends at a position where

    1  a pre-token begins, whatever comes before and after (see `vectorized.safe_split_points`);
    2  no special token extends across it;
    3  no normalization extends across it: no character composes with characters on the other side, and the normalized
       text, too, has a safe split point there.

Then the pre-tokens of the blocks, one after another, are those of the whole text. Special tokens are found from left to
right, the longest first where several begin. By (2) none of the whole text's special tokens extends from one block into
the next. So up to the boundary, searching the block gives the same special tokens as searching the text, and the search
of the next block starts where the search of the text would continue. A boundary is therefore either next to a special
token, where pre-tokens begin in any case, or strictly between two of them; there, by (1), the pre-tokens on each side
do not depend on the other side.

By (3), the same holds for the normalized text. To verify (2), the reader must look ahead by the length of a special
token: only positions are considered that have the length of the longest special token between them and the end of what
was read. A text without a possible boundary, such as a single word of many megabytes, is one block.
"""

from codecs import BOM_UTF8, utf_8_decode
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npllm.tokenizers.byte_pair.normalizers import Normalizer, is_unchanged
from npllm.tokenizers.byte_pair.pre_tokenizers import Step
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN
from npllm.tokenizers.vectorized.pretokenizers import find_pretokenizer
from npllm.tokenizers.vectorized.safe_split_points import last_safe_split_point
from npllm.utils.file_errors import FileError
from npllm.utils.text_files import check_no_nul, open_text_file, utf8_error

BLOCK = 1 << 18  # bytes that are read at once


class TextBlock(NamedTuple):
    """A part of a text, and its bytes in the file, the byte order mark included: all blocks' bytes are the file."""

    text: str
    data: bytes


def read_text_blocks(
    path: str | Path,
    pattern: str | tuple[Step, ...] = GPT2_PATTERN,
    special_tokens: Collection[str] = (),
    start: int = 0,
    *,
    normalizers: Sequence[Normalizer] = (),
    as_one_block: bool = False,
) -> Iterator[TextBlock]:
    """Iterate over the TextBlocks of a file in UTF-8, from byte `start` on, where an earlier block has ended.

    The byte order mark is removed; line breaks are kept as they are. Only one block is in memory at a time if `pattern`
    is one of pretokenize.PATTERNS, or steps with a vectorized pre-tokenizer. Where the pre-tokens of any other pattern
    begin is unknown, so the file is read as one block; so it is with `as_one_block`. Raises FileNotFoundError,
    IsADirectoryError, or FileError for an empty file, for NUL bytes (as in UTF-16), for the first byte that is not
    UTF-8, and as `open_text_file`.
    """
    read_all = as_one_block or find_pretokenizer(pattern) is None
    position, at_end = start, False
    file, pending = open_text_file(path)
    with file:
        if start:
            file.seek(start)
        while not at_end:
            num_bytes = -1 if read_all else max(BLOCK, len(pending))  # without a boundary, the next read doubles
            read = file.read(num_bytes)
            pending, at_end = pending + read, read_all or len(read) < num_bytes
            mark = BOM_UTF8 if position == 0 and pending.startswith(BOM_UTF8) else b""
            if position == 0:
                check_no_nul(path, pending)
            text = _decode(path, pending, position, len(mark), at_end)
            end = len(text) if at_end else last_split_point(text, special_tokens, normalizers)
            if at_end and not text and position == 0:
                raise FileError(path, "is empty; it must contain text")
            if end:
                data = pending[: len(mark) + len(text[:end].encode())]
                yield TextBlock(text[:end], data)
                pending, position = pending[len(data) :], position + len(data)


def last_split_point(text: str, special_tokens: Collection[str] = (), normalizers: Sequence[Normalizer] = ()) -> int:
    """The last position at which a text that continues may be split; 0 if there is none."""
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    longest = max(map(len, special_tokens), default=1)
    position = last_safe_split_point(codes[: max(0, len(codes) - longest + 1)])
    while position:
        starts = [i for token in special_tokens if (i := _start_of_token_across(token, text, position)) >= 0]
        if not starts and _no_normalization_across(text, position, normalizers):
            break
        position = last_safe_split_point(codes[: min([*(i + 1 for i in starts), position])])
    return position


def is_split_point(
    before: str, after: str, special_tokens: Collection[str] = (), normalizers: Sequence[Normalizer] = ()
) -> bool:
    """True if a text may be split between two parts. As many characters of each as a special token has are enough."""
    text, position = before + after, len(before)
    codes = np.frombuffer(text[: position + 1].encode("utf-32-le"), "<u4")
    return (
        last_safe_split_point(codes) == position
        and _no_normalization_across(text, position, normalizers)
        and all(_start_of_token_across(token, text, position) < 0 for token in special_tokens)
    )


def _no_normalization_across(text, position, normalizers):
    """True if both sides of a safe split point are normalized as the whole text is, and it remains a safe split point.

    If whitespace follows, any character may be before it: its normalization does not end with whitespace.
    """
    here = text[position : position + 1]
    return is_unchanged(here if here.isspace() else text[position - 1 : position + 1], normalizers)


def _start_of_token_across(token, text, position):
    """Where a special token begins that extends across a position, or −1."""
    return text.find(token, max(0, position - len(token) + 1), position + len(token) - 1)


def _decode(path, data, position, start, final):
    """The text of bytes at `position` in the file, from `start` on; the last character may be incomplete."""
    try:
        return utf_8_decode(data[start:], "strict", final)[0]
    except UnicodeDecodeError as error:
        wrong = start + error.start
        raise utf8_error(path, position + wrong, data[wrong]) from error

"""A text file of any size, block by block, cut so that nobody who splits the blocks into pieces can tell.

    [file → blocks of text] → pieces → bytes → ids

A file that is larger than memory has to be read in parts. Cut anywhere, a part could end within a character, within a
word or within a special token, and the pieces there would be other ones. So a block ends

    1  where a piece begins whatever comes before and behind (see fast.sure_starts);
    2  where no special token stands across the cut.

Then the pieces of the blocks, one block's after the other's, are those of the whole text. Special tokens are found
from left to right, the longest first where several begin. By (2) none that the whole text has reaches from one block
into the next; so up to the cut the block is searched as the text is, and the search of the next block goes on where the
text's would: both find the same special tokens. They divide the text, and a cut is either where one of them begins or
ends, where pieces begin anyway, or strictly between two of them; there, by (1), the pieces to its left are the same
without what follows, and those to its right without what came before.

To know (2) one must see as far as a special token reaches: only places are considered that have the length of the
longest one between them and the end of what was read. A text without a sure place, such as a single word of many
megabytes, is one block.
"""

from codecs import BOM_UTF8, utf_8_decode
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.vectorized.blocks import last_sure_start
from npllm.utils import corpora

BLOCK = 1 << 18  # bytes that are read at once


class TextBlock(NamedTuple):
    """A part of a text, and the bytes of the file that it stands for: all blocks' bytes in a row are the file."""

    text: str
    data: bytes


def read_text_blocks(path, pattern=GPT2_PATTERN, special_tokens=(), start=0):
    """The TextBlocks of a file in UTF-8, from byte `start` on, where another block has ended before.

    Without the byte order mark; line breaks stay as they are. Memory holds one block, if `pattern` is one of
    split.PATTERNS: of another one nobody knows where its pieces begin, and the file is read whole. Raises
    FileNotFoundError, IsADirectoryError, or ValueError naming the first byte that is not UTF-8; an empty file and one
    that begins like UTF-16, with NUL bytes, are no text either.
    """
    corpora.must_be_a_text_file(path)
    whole = pattern not in PATTERNS.values()
    position, waiting, at_end = start, b"", False
    with open(path, "rb") as file:
        if start:
            file.seek(start)
        while not at_end:
            wanted = -1 if whole else max(BLOCK, len(waiting))  # where nothing could be cut, read as much again
            read = file.read(wanted)
            waiting, at_end = waiting + read, whole or len(read) < wanted
            mark = BOM_UTF8 if position == 0 and waiting.startswith(BOM_UTF8) else b""
            if position == 0:
                corpora.must_have_no_nul(path, waiting)
            text = _decode(path, waiting, position, len(mark), at_end)
            end = len(text) if at_end else last_split_point(text, special_tokens)
            if at_end and not text and position == 0:
                raise ValueError(f"{Path(path)} is empty; it must hold some text")
            if end:
                data = waiting[: len(mark) + len(text[:end].encode())]
                yield TextBlock(text[:end], data)
                waiting, position = waiting[len(data) :], position + len(data)


def last_split_point(text, special_tokens=()):
    """The last place where a text that goes on may be cut, 0 if there is none."""
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    longest = max(map(len, special_tokens), default=1)
    place = last_sure_start(codes[: max(0, len(codes) - longest + 1)])
    while begins := [begin for token in special_tokens if (begin := _stands_across(token, text, place)) >= 0]:
        place = last_sure_start(codes[: min(begins) + 1])
    return place


def is_split_point(before, after, special_tokens=()):
    """May a text be cut between these two parts? To know it, as many characters of each as a special token has do."""
    text, place = before + after, len(before)
    codes = np.frombuffer(text[: place + 1].encode("utf-32-le"), "<u4")
    return last_sure_start(codes) == place and all(_stands_across(token, text, place) < 0 for token in special_tokens)


def _stands_across(token, text, place):
    """Where a special token begins that stands across a place, or −1."""
    return text.find(token, max(0, place - len(token) + 1), place + len(token) - 1)


def _decode(path, data, position, start, final):
    """The text of bytes that stand at `position` in the file, from `start` on; half a character may be at the end."""
    try:
        return utf_8_decode(data[start:], "strict", final)[0]
    except UnicodeDecodeError as error:
        wrong = start + error.start
        raise corpora.not_utf8(path, position + wrong, data[wrong]) from error

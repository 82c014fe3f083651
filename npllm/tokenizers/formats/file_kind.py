"""What a file is, from its first bytes: one of the vocabulary formats, or something else, which is named.

    first bytes → [kind] → reader of that format

A failed download, a placeholder of Git LFS or a weight file often has the name of a vocabulary. The message then says
what the file is.
"""

import re
from pathlib import Path
from typing import Literal

from npllm.utils.file_errors import FileError
from npllm.utils.files import check_regular_file

Kind = Literal["json", "gguf", "sentencepiece", "tiktoken", "merges"]

HEAD = 4096  # bytes that are examined
TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]*={0,2}[ \t]+\d+\s*(\n|$)")
MERGES_LINE = re.compile(rb"(#version[^\n]*|[^\s]+ [^\s]+)\r?(\n|$)")
OTHERS = (  # (first bytes, what such a file is)
    (b"version https://git-lfs", "a placeholder of Git LFS; fetch the file itself with `git lfs pull`"),
    (b"PK\x03\x04", "a ZIP archive, such as the pickled weights of PyTorch"),
    (b"\x80\x02", "a Python pickle, which could run any code when it is read"),
    (b"\x80\x03", "a Python pickle, which could run any code when it is read"),
    (b"\x80\x04", "a Python pickle, which could run any code when it is read"),
    (b"\x80\x05", "a Python pickle, which could run any code when it is read"),
    (b"\x1f\x8b", "compressed with gzip; decompress it first"),
    (b"\xfd7zXZ", "compressed with xz; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard; decompress it first"),
    (b"BZh", "compressed with bzip2; decompress it first"),
    (b"\xff\xfe", "text in UTF-16; it must be UTF-8"),
    (b"\xfe\xff", "text in UTF-16; it must be UTF-8"),
    (b"%PDF", "a PDF document"),
)
SUPPORTED = (
    "tokenizer.json, vocabulary.json of npllm, *.tiktoken, tokenizer.model, tekken.json, vocab.json with merges.txt, "
    "encoder.json with vocab.bpe, JSON of js-tiktoken, or *.gguf"
)


def file_kind(path: str | Path) -> Kind:
    """The format of a vocabulary file; raises FileError, which says what the file is, for any other file."""
    path = Path(path)
    check_regular_file(path)
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head:
        raise FileError(path, f"is empty; a vocabulary file is {SUPPORTED}")
    if head.startswith(b"GGUF"):
        return "gguf"
    for start, what in OTHERS:
        if head.startswith(start):
            raise FileError(path, f"is {what}")
    if _is_sentencepiece(head):
        return "sentencepiece"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"{", b"[") and path.suffix not in (".bpe", ".txt"):
        return "json"
    if text[:1] == b"<" and re.match(rb"<(!doctype|html|\?xml|head)", text, re.IGNORECASE):
        raise FileError(path, "is an HTML or XML page, perhaps the message of a server; download the file again")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        raise FileError(path, f"is a safetensors file, which holds weights; a vocabulary file is {SUPPORTED}")
    return _text_kind(path, head)


def _text_kind(path, head):
    """tiktoken or merges: by the ending of the name, otherwise by the first line."""
    if path.suffix in (".tiktoken", ".model"):
        return "tiktoken"
    if path.suffix == ".bpe" or path.name == "merges.txt":
        return "merges"
    if path.suffix == ".json":
        raise FileError(path, f"is not valid JSON: it begins with {head[:20]!r}")
    if TIKTOKEN_LINE.match(head):
        return "tiktoken"
    if MERGES_LINE.match(head) and b"#version" in head[:16]:
        return "merges"
    raise FileError(path, f"begins with {head[:20]!r}; it must be {SUPPORTED}")


def _is_sentencepiece(head):
    """True for the protobuf of SentencePiece: field 1, a message whose own field 1 is the text of the first token."""
    if len(head) < 4 or head[0] != 0x0A:
        return False
    length, position = 0, 1
    for shift in range(0, 28, 7):
        byte = head[position] if position < len(head) else 0
        length, position = length | (byte & 0x7F) << shift, position + 1
        if byte < 0x80:
            break
    return 0 < length < 1 << 16 and head[position : position + 1] == b"\x0a"

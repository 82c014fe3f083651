"""Encode a text file of any size to a token file, block by block; an interrupted encoding can be resumed.

    [text → ids → file] → windows → batches → …

One block of text and its ids are in memory at a time. Every SAVE_INTERVAL bytes the ids so far are saved (see
partial_token_file). Another call with the same arguments continues from there, after a check that the text up to there
is the same and that the split does not change its ids (the text after it may have changed). The resulting file is
byte for byte that of an uninterrupted call.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from npllm.batching.partial_token_file import PartialTokenFile, open_partial_token_file, partial_paths
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.formats.npllm_json import to_npllm_json
from npllm.tokenizers.text_blocks import TextBlock, is_split_point, read_text_blocks
from npllm.utils.file_errors import FileError

SAVE_INTERVAL = 1 << 24  # bytes of text between two saves
CHUNK = 1 << 20
SPECIAL = ("refuse", "as-tokens", "as-text")


def encode_file(
    text_path: str | Path,
    path: str | Path,
    tokenizer: BPETokenizer,
    special: str = "refuse",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the ids of a text file to a token file and return their number.

    Args:
        special: what to do with special tokens in the text: "refuse" (the default, as in `encode`: untrusted text
            cannot insert control tokens unnoticed), "as-tokens" or "as-text".
        overwrite: whether `path` may exist; it is replaced when the new file is complete.
        progress: called with (bytes of text, ids) so far, at the start and after each block.

    Raises ValueError for a text that is not UTF-8 or has a special token that is refused, and for a partial file of
    another text or tokenizer; FileExistsError if `path` exists and `overwrite` is false.
    """
    if special not in SPECIAL:
        raise ValueError(f"special is {special!r}; it must be one of {', '.join(SPECIAL)}")
    if Path(text_path).exists() and not Path(text_path).is_file():
        raise FileError(text_path, "is not a regular file; it must be one, because resuming reads it again")
    for written in partial_paths(path):
        if written.exists() and written.samefile(text_path):
            raise ValueError(f"{text_path} is the text and would be overwritten; choose another name than {path}")
    progress = progress or (lambda num_bytes, count: None)
    allowed = tokenizer.special_tokens if special == "as-tokens" else ()
    with open_partial_token_file(path, tokenizer.vocab_size, _settings(tokenizer, special), overwrite) as file:
        sha256, position = _hash_saved_part(text_path, file, tokenizer), file.num_bytes
        progress(position, file.count)
        blocks = read_text_blocks(
            text_path,
            tokenizer.pattern,
            tokenizer.special_tokens,
            position,
            normalizers=tokenizer.normalizers,
            as_one_block=tokenizer.needs_whole_text,
        )
        for block in blocks:
            if position - file.num_bytes >= SAVE_INTERVAL:
                file.save(position, sha256.hexdigest())  # before a block: the text is known to go on after the split
            if special == "refuse":
                _refuse_special(text_path, tokenizer, block, position)
            file.append(tokenizer.encode_to_numpy(block.text, allowed_special=allowed, disallowed_special=()))
            sha256.update(block.data)
            position += len(block.data)
            progress(position, file.count)
        file.finish()
    return file.count


def _settings(tokenizer, special):
    """Everything besides the text that determines the ids.

    With "refuse" the ids so far contain no special token, so the encoding may be resumed with any choice.
    """
    settings = {
        "vocabulary_sha256": hashlib.sha256(repr(sorted(tokenizer.ranks.items())).encode()).hexdigest(),
        "pattern": tokenizer.pattern,
        "special_tokens": tokenizer.special_tokens,
    }
    content = to_npllm_json(tokenizer)
    if content["version"] > 1:  # the tokenizer has steps or options
        settings |= {key: value for key, value in content.items() if key != "ranks"}
    return settings if special == "refuse" else settings | {"special": special}


def _hash_saved_part(path: str | Path, file: PartialTokenFile, tokenizer: BPETokenizer):
    """The SHA-256 of the part of the text that is already encoded; raise ValueError if the text is another one."""
    sha256, remaining, tail = hashlib.sha256(), file.num_bytes, b""
    if not remaining:
        return sha256
    nearby = 4 * max(map(len, tokenizer.special_tokens), default=1)  # bytes; a character has at most four
    with open(path, "rb") as text:
        while remaining and (chunk := text.read(min(remaining, CHUNK))):
            sha256.update(chunk)
            remaining, tail = remaining - len(chunk), (tail + chunk)[-nearby:]
        head = text.read(nearby)
    before, after = tail.decode(errors="ignore"), head.decode(errors="ignore")  # on both sides of the split
    changed = remaining or sha256.hexdigest() != file.text_sha256
    if changed or after and not is_split_point(before, after, tokenizer.special_tokens, tokenizer.normalizers):
        raise FileError(
            file.paths.partial,
            f"was written from another text than the first {file.num_bytes:,} bytes of {path}: use that text, or "
            f"{file.advice()}",
        )
    return sha256


def _refuse_special(path: str | Path, tokenizer: BPETokenizer, block: TextBlock, position: int) -> None:
    special = [token.text for token in tokenizer.added_tokens if token.special]
    found = {token: index for token in special if (index := block.text.find(token)) >= 0}
    if found:
        token = min(found, key=lambda token: found[token])
        byte = position + block.data.find(token.encode())
        raise FileError(
            path,
            f"has the special token {token!r} at byte {byte:,}; choose how to encode it: special='as-tokens' as "
            "this token, or 'as-text' as ordinary text (--special-tokens on the command line)",
        )

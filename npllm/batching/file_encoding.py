"""A text file to a token file, both of any size: block by block, and from where it was stopped.

    [text → ids → file] → windows → batches → …

What is in memory is a block of text and its ids. Every few megabytes the ids so far are safe (`resumable_token_file`),
and whoever calls again with the same arguments goes on from there, once it is sure that the text up to there is the
same, and may still be cut there (further on it may have changed). The file is the one that a single call would have
written, byte for byte.
"""

import hashlib
from pathlib import Path

from npllm.batching.partial_token_file import names_beside, resumable_token_file
from npllm.tokenizers.text_blocks import is_split_point, read_text_blocks

SAVE_EVERY = 1 << 24  # bytes of text; more often costs time, less often loses more of it
CHUNK = 1 << 20
SPECIAL = ("refuse", "as-tokens", "as-text")


def encode_file(text_path, path, tokenizer, special="refuse", overwrite=False, progress=None):
    """Write the ids of a text to a token file and return how many there are.

    tokenizer  a BPETokenizer
    special    what to do where the text has a special token: "refuse", because a text from outside should not be able
               to speak in control tokens unnoticed (as `encode` does), "as-tokens" or "as-text"
    overwrite  may the file be there already? It is replaced when the new one is complete
    progress   is called with the bytes of text and the ids that are done, at the start and after each block

    Raises ValueError for a text that is not UTF-8 or has a special token that is refused, and for a partial file of
    another text or tokenizer; FileExistsError for a file that is not to be overwritten.
    """
    if special not in SPECIAL:
        raise ValueError(f"special is {special!r}; it must be one of {', '.join(SPECIAL)}")
    if Path(text_path).exists() and not Path(text_path).is_file():
        raise ValueError(f"{text_path} is no regular file; it must be one, to be read again when the work goes on")
    for name in names_beside(path):
        if name.exists() and name.samefile(text_path):
            raise ValueError(f"{text_path} is the text itself, and would be written over; {path} must be another name")
    progress = progress or (lambda read, count: None)
    allowed = tokenizer.special_tokens if special == "as-tokens" else ()
    with resumable_token_file(path, tokenizer.vocab_size, _recipe(tokenizer, special), overwrite) as file:
        sha256, read = _hash_again(text_path, file, tokenizer.special_tokens), file.read
        progress(read, file.count)
        for block in read_text_blocks(text_path, tokenizer.pattern, tokenizer.special_tokens, read):
            if read - file.read >= SAVE_EVERY:  # not behind the last block: a text that grows may not be cut there
                file.save(read, sha256.hexdigest())
            if special == "refuse":
                _refuse_special(text_path, tokenizer, block, read)
            file.add(tokenizer.encode_to_numpy(block.text, allowed_special=allowed, disallowed_special=()))
            sha256.update(block.data)
            read += len(block.data)
            progress(read, file.count)
        file.finish()
    return file.count


def _recipe(tokenizer, special):
    """What decides about the ids besides the text.

    As long as special tokens are refused there are none, and one may go on with them in any way.
    """
    ranks = hashlib.sha256(repr(sorted(tokenizer.ranks.items())).encode()).hexdigest()
    recipe = {"vocabulary": ranks, "pattern": tokenizer.pattern, "set of special tokens": tokenizer.special_tokens}
    return recipe if special == "refuse" else recipe | {"choice for special tokens": special}


def _hash_again(path, file, special_tokens):
    """The SHA-256 of what was read of the text; raise ValueError if it is not the text that it was."""
    sha256, left, before = hashlib.sha256(), file.read, b""
    if not left:
        return sha256
    near = 4 * max(map(len, special_tokens), default=1)  # bytes; no character has more than four
    with open(path, "rb") as text:
        while left and (chunk := text.read(min(left, CHUNK))):
            sha256.update(chunk)
            left, before = left - len(chunk), (before + chunk)[-near:]
        after = text.read(near)
    before, after = (part.decode(errors="ignore") for part in (before, after))
    if left or sha256.hexdigest() != file.sha256 or after and not is_split_point(before, after, special_tokens):
        raise ValueError(
            f"{file.partial} was begun with another text, not with the first {file.read:,} bytes of {path}: "
            f"go on with that, or {file.advice()}"
        )
    return sha256


def _refuse_special(path, tokenizer, block, position):
    found = {token: place for token in tokenizer.special_tokens if (place := block.text.find(token)) >= 0}
    if found:
        token = min(found, key=found.get)
        byte = position + block.data.find(token.encode())
        raise ValueError(
            f"{path} has {token!r} at byte {byte:,}, which reads like a special token; say what it shall be: "
            "special='as-tokens', that token, or 'as-text', plain text (--special-tokens on the command line)"
        )

"""`npllm bpe`: a vocabulary from files of any size, the ids of files of any size, and the text of ids.

[npllm bpe train FILE … → vocabulary; npllm bpe encode FILE → token file] → windows → batches → …
npllm bpe decode: token file → text
"""

import argparse
import os
import shutil
import signal
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from npllm.batching.file_encoding import SAVE_INTERVAL, encode_file
from npllm.batching.token_file import open_token_file, read_header
from npllm.cli.options import VOCABULARY_HELP, UsageError, integer_from, print_help, vocabulary_path
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.bpe_training import train_bpe
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.byte_pair.surrogates import is_encodable
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.loading import load_tokenizer
from npllm.tokenizers.text_blocks import read_text_blocks
from npllm.utils.files import atomic_write, naming_the_file
from npllm.utils.signals import describe_interruption, signal_behind
from npllm.utils.temporary_files import temporary_folder
from npllm.utils.terminal import readable, visible
from npllm.utils.text_files import check_text_file

VOCABULARY = "vocabulary.json"  # npllm's own format, which holds everything
FILES = (VOCABULARY, "tokenizer.json", "vocabulary.tiktoken")  # the name decides the format
OPENAI_FILES = ("encoder.json", "vocab.bpe")
NUM_DECODED = 1 << 20  # ids that are decoded at once
NUM_SHOWN = 6  # of the first and of the last merges


def add_parser(commands) -> None:
    """Add the commands to argparse's subparsers."""
    command = commands.add_parser("bpe", help="train a vocabulary on files of any size, encode and decode such files")
    command.set_defaults(run=print_help)
    actions = command.add_subparsers(title="commands", metavar="COMMAND")
    train = actions.add_parser("train", help="learn a vocabulary by byte pair encoding")
    train.add_argument("files", metavar="FILE", nargs="+", help="texts in UTF-8, of any size")
    train.add_argument(
        "--vocab-size", metavar="N", type=int, required=True, help="tokens, the 256 bytes and special tokens included"
    )
    train.add_argument("--out", metavar="FOLDER", required=True, help="folder for the vocabulary")
    train.add_argument(
        "--special-token",
        metavar="TOKEN",
        action="append",
        default=[],
        help="a special token; may be repeated (default: none)",
    )
    train.add_argument(
        "--pattern", choices=tuple(PATTERNS), default="gpt2", help="the pattern that splits the text into pre-tokens"
    )
    train.add_argument(
        "--tie-break",
        choices=("first", "id"),
        default="first",
        help="among equally frequent pairs, merge the first in the text (default) or the one with the lowest ids",
    )
    train.set_defaults(run=run_train)
    encode = actions.add_parser("encode", help="encode a text into a token file; the same command resumes it")
    encode.add_argument("file", metavar="FILE", help="a text in UTF-8, of any size")
    encode.add_argument("--out", metavar="FILE", required=True, help="the token file")
    encode.add_argument(
        "--vocabulary", metavar="PATH", type=vocabulary_path, help=f"{VOCABULARY_HELP} (default: GPT-2's)"
    )
    encode.add_argument(
        "--pattern", choices=tuple(PATTERNS), help="the pattern of a *.tiktoken file, which does not hold it"
    )
    encode.add_argument(
        "--special-tokens",
        choices=("refuse", "as-tokens", "as-text"),
        default="refuse",
        help="how special tokens in the text are encoded (default: refuse, an error)",
    )
    encode.add_argument("--overwrite", action="store_true", help="replace the token file when the new one is complete")
    encode.set_defaults(run=run_encode)
    decode = actions.add_parser("decode", help="print the text of ids, or write that of a token file")
    decode.add_argument("ids", metavar="ID", nargs="*", type=integer_from(0), help="ids of tokens")
    decode.add_argument("--tokens", metavar="FILE", help="a token file of npllm bpe encode, in place of ids")
    decode.add_argument(
        "--vocabulary", metavar="PATH", type=vocabulary_path, help=f"{VOCABULARY_HELP} (default: GPT-2's)"
    )
    decode.add_argument("--pattern", choices=tuple(PATTERNS), help=argparse.SUPPRESS)
    decode.add_argument("--out", metavar="FILE", help="write the text to this file, byte for byte (default: print it)")
    decode.set_defaults(run=run_decode)


def run_train(console: Console, options: argparse.Namespace) -> None:
    """Run `npllm bpe train`."""
    train_vocabulary(
        console,
        options.files,
        options.vocab_size,
        options.out,
        options.special_token,
        PATTERNS[options.pattern],
        options.tie_break,
    )


def run_encode(console: Console, options: argparse.Namespace) -> int:
    """Run `npllm bpe encode`."""
    return encode_text_file(
        console,
        options.file,
        options.out,
        options.vocabulary,
        options.special_tokens,
        options.overwrite,
        options.pattern,
    )


def run_decode(console: Console, options: argparse.Namespace) -> None:
    """Run `npllm bpe decode`."""
    if bool(options.ids) == (options.tokens is not None):
        raise UsageError("give either ids or --tokens FILE")
    # the pattern of a *.tiktoken file plays no part in decoding
    tokenizer = (
        GPT2Tokenizer.load()
        if options.vocabulary is None
        else load_tokenizer(options.vocabulary, pattern=options.pattern or "gpt2")
    )
    if options.tokens is None:
        ids = np.array(options.ids, np.int64)
    else:
        vocab_size = read_header(options.tokens).vocab_size
        if vocab_size != tokenizer.vocab_size:
            raise ValueError(
                f"{options.tokens} has ids of a vocabulary of size {vocab_size}; the tokenizer has vocabulary size "
                f"{tokenizer.vocab_size}: give --vocabulary the one that the file was encoded with"
            )
        ids = open_token_file(options.tokens)
    parts = decode_in_parts(tokenizer, ids)
    if options.out is None:
        decoder = getincrementaldecoder("utf-8")("replace")
        for part in parts:
            console.file.write(decoder.decode(part))
        console.file.write(decoder.decode(b"", True) + "\n")
        return
    with atomic_write(options.out) as file:
        for part in parts:
            file.write(part)
    console.print(Text(f"wrote the text of {len(ids):,} ids to {options.out}"), soft_wrap=True)


def decode_in_parts(tokenizer: Tokenizer, ids: np.ndarray) -> Iterator[bytes]:
    """Iterate over the bytes of the text of ids (n,). Raises ValueError for an id that is not in the vocabulary."""
    try:
        if not isinstance(tokenizer, BPETokenizer):  # the text of a token may depend on those before it
            yield tokenizer.decode(ids.tolist()).encode()
            return
        for start in range(0, len(ids), NUM_DECODED):
            yield tokenizer.decode_bytes(np.asarray(ids[start : start + NUM_DECODED]))
    except KeyError as error:
        raise ValueError(error.args[0]) from None


def train_vocabulary(
    console: Console,
    paths: Sequence[str | Path],
    vocab_size: int,
    folder: str | Path,
    special_tokens: Sequence[str] = (),
    pattern: str = GPT2_PATTERN,
    tie_break: Literal["first", "id"] = "first",
) -> None:
    """Train a vocabulary on text files and write it to a folder in every format.

    Only the distinct pre-tokens are kept in memory. No pre-token extends from one file into the next. The files are
    written into a temporary folder, which is renamed: all of them are there, or none. Raises FileExistsError if the
    folder contains a vocabulary.
    """
    folder = Path(folder)
    _check_no_vocabulary(folder)
    if folder.exists() and not folder.is_dir() or folder.suffix in (".json", ".tiktoken"):
        raise ValueError(f"--out is {folder}; it must be a folder")
    if wrong := [token for token in special_tokens if not token or not is_encodable(token)]:
        raise ValueError(f"--special-token is {wrong[0]!r}; it must be a text of at least one character")
    if repeated := [token for token in special_tokens if special_tokens.count(token) > 1]:
        raise ValueError(f"--special-token is {repeated[0]!r} more than once; each must be given once")
    for path in paths:
        check_text_file(path)
    with _new_folder(folder):  # before the training, because it may be forbidden
        merges, tokenizer = _train(console, paths, vocab_size, special_tokens, pattern, tie_break)
    _report(console, merges, tokenizer, vocab_size)
    _save(console, tokenizer, folder)


def encode_text_file(
    console: Console,
    text_path: str | Path,
    out: str | Path,
    vocabulary: str | Path | None = None,
    special: str = "refuse",
    overwrite: bool = False,
    pattern: str | None = None,
) -> int:
    """Write the ids of a text file to a token file, resuming an interrupted run; return 0, or 128 + n."""
    check_text_file(text_path)
    tokenizer, size = load_vocabulary(vocabulary, pattern), Path(text_path).stat().st_size
    if special == "as-tokens" and not tokenizer.special_tokens:
        raise UsageError(f"--special-tokens is as-tokens, but the vocabulary {vocabulary} has no special tokens")
    start_time, resumed_at, num_bytes = time.perf_counter(), None, 0
    with _progress(console) as bar:
        task = bar.add_task("bytes", total=size)

        def progress(read, count):
            nonlocal resumed_at, num_bytes
            if resumed_at is None:
                resumed_at = read
                if read:
                    console.print(f"resumed after {read:,} bytes, {count:,} ids", highlight=False)
            num_bytes = read
            bar.update(task, completed=read)

        try:
            count = encode_file(text_path, out, tokenizer, special, overwrite, progress)
        except KeyboardInterrupt as interruption:
            number = signal_behind(interruption) or signal.SIGINT
            advice = f"progress is saved every {SAVE_INTERVAL >> 20} MiB; run the same command again to resume"
            message = f"{describe_interruption(number)} after {num_bytes:,} of {size:,} bytes; {advice}"
            console.print(Text(message), soft_wrap=True)
            return 128 + number
    rate = (size - (resumed_at or 0)) / 1e6 / (time.perf_counter() - start_time)
    console.print(f"{count:,} ids, {size / max(count, 1):.2f} bytes per id; {rate:.1f} MB/s", highlight=False)
    console.print(Text(f"wrote the ids to {out}"), soft_wrap=True)
    return 0


def load_vocabulary(path: str | Path | None = None, pattern: str | None = None) -> BPETokenizer:
    """The tokenizer of a vocabulary file, of a model folder or of `npllm bpe train`; GPT-2's if there is no path."""
    if path is None:
        if pattern is not None:
            raise UsageError("--pattern belongs to the file of --vocabulary, which is missing")
        return GPT2Tokenizer.load()
    tokenizer = load_tokenizer(path, pattern=pattern)
    if not isinstance(tokenizer, BPETokenizer):
        raise ValueError(f"{path} has a {type(tokenizer).__name__}; a token file needs byte-level BPE, a BPETokenizer")
    return tokenizer


@contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Create a folder, and remove it again if the body of the with statement fails."""
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not existed:
            with suppress(OSError):
                folder.rmdir()
        raise


def _train(console, paths, vocab_size, special_tokens, pattern, tie_break):
    """The merges and the tokenizer; shows the progress of reading, then of merging."""
    merges = []
    with _progress(console) as bar:
        texts = _texts(paths, pattern, special_tokens, bar)
        task = bar.add_task("merges", total=vocab_size - 256 - len(special_tokens), visible=False)

        def on_merge(merge):
            merges.append(merge)
            bar.update(task, completed=len(merges), visible=True)

        return merges, train_bpe(texts, vocab_size, pattern, special_tokens, on_merge, tie_break)


def _texts(paths, pattern, special_tokens, bar):
    """Iterate over the texts of all files, block by block."""
    task = bar.add_task("bytes", total=sum(Path(path).stat().st_size for path in paths) or None)
    for path in paths:
        for block in read_text_blocks(path, pattern, special_tokens):
            yield block.text
            bar.advance(task, len(block.data))


def _report(console, merges, tokenizer, wanted):
    """Print the first and the last merges, and the size of the vocabulary."""
    tokens = [visible(readable(merge.token)) for merge in merges]
    if len(tokens) > 2 * NUM_SHOWN:
        tokens[NUM_SHOWN:-NUM_SHOWN] = ["…"]
    console.print(Text("merges  " + "  ".join(tokens)), soft_wrap=True)
    size, num_special = tokenizer.vocab_size, len(tokenizer.special_tokens)
    console.print(f"{size:,} tokens, {num_special} of them special", highlight=False)
    if size < wanted:
        console.print(f"the text has no further pairs to merge; --vocab-size was {wanted:,}", highlight=False)


def _check_no_vocabulary(folder):
    if existing := next((name for name in FILES + OPENAI_FILES if (folder / name).exists()), None):
        raise FileExistsError(f"{folder} already contains a vocabulary, {existing}; --out must be another folder")


def _save(console, tokenizer, folder):
    with naming_the_file(folder), temporary_folder(folder.resolve().parent) as temporary:
        for name in (*FILES, ""):  # "" is the folder itself: OPENAI_FILES
            try:
                tokenizer.save(temporary / name)
            except ValueError as error:
                console.print(Text(f"{folder / name} was not written: {error}", style="red"), soft_wrap=True)
        try:
            os.rename(temporary, folder.resolve())
        except OSError:  # the folder has other files, or is another file system
            _check_no_vocabulary(folder)  # of a process that trained at the same time
            for path in temporary.iterdir():
                shutil.move(path, folder / path.name)
    console.print(Text(f"wrote the vocabulary to {folder}"), soft_wrap=True)


def _progress(console):
    columns = (BarColumn(), TextColumn("{task.completed:,.0f} {task.description}"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

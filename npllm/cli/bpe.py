"""`npllm bpe train` and `npllm bpe encode`: a vocabulary from files of any size, and files of any size as ids.

    [npllm bpe train FILE … → vocabulary; npllm bpe encode FILE → token file] → windows → batches → …

Each function prints to the rich Console that it is given.
"""

import argparse
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from npllm.batching.file_encoding import SAVE_EVERY, encode_file
from npllm.cli.options import print_help
from npllm.tokenizers.bpe import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.text_blocks import read_text_blocks
from npllm.utils.terminal import readable, visible
from npllm.utils.text_files import check_text_file

VOCABULARY = "vocabulary.json"
FILES = (
    VOCABULARY,
    "tokenizer.json",
    "vocabulary.tiktoken",
)  # each in the format of its name; the first holds everything
OPENAI = ("encoder.json", "vocab.bpe")
SHOWN = 6  # merges, of the first and of the last ones


def add_parser(commands) -> None:
    """Add the commands to argparse's subparsers."""
    command = commands.add_parser("bpe", help="train a vocabulary on files of any size, and encode such files")
    command.set_defaults(run=print_help)
    actions = command.add_subparsers(title="commands", metavar="COMMAND")
    train = actions.add_parser("train", help="learn a vocabulary by byte pair encoding")
    train.add_argument("files", metavar="FILE", nargs="+", help="texts in UTF-8, of any size")
    train.add_argument(
        "--vocab-size", metavar="N", type=int, required=True, help="tokens, the 256 bytes and special tokens included"
    )
    train.add_argument("--out", metavar="FOLDER", required=True, help="folder for the vocabulary")
    train.add_argument(
        "--special-token", metavar="TOKEN", action="append", default=[], help="a special token; may be repeated"
    )
    train.add_argument("--pattern", choices=("gpt2", "cl100k", "o200k"), default="gpt2", help="default: gpt2")
    train.add_argument(
        "--tie-break", choices=("first", "id"), default="first",
        help="of equally frequent pairs, the first in the text (default) or the one of the lowest ids",
    )  # fmt: skip
    train.set_defaults(run=run_train)
    encode = actions.add_parser("encode", help="encode a text into a token file; the same command resumes it")
    encode.add_argument("file", metavar="FILE", help="a text in UTF-8, of any size")
    encode.add_argument("--out", metavar="FILE", required=True, help="the token file")
    encode.add_argument("--vocabulary", metavar="PATH", help="a file or folder of npllm bpe train (default: GPT-2's)")
    encode.add_argument(
        "--special-tokens", choices=("refuse", "as-tokens", "as-text"), default="refuse",
        help="how special tokens in the text are encoded (default: refuse, an error)",
    )  # fmt: skip
    encode.add_argument("--overwrite", action="store_true", help="replace the token file, once the new one is complete")
    encode.set_defaults(run=run_encode)


def run_train(console, options: argparse.Namespace) -> None:
    """Learn a vocabulary."""
    train_and_save(
        console, options.files, options.vocab_size, options.out, options.special_token, options.pattern,
        options.tie_break,
    )  # fmt: skip


def run_encode(console, options: argparse.Namespace) -> int:
    """Encode a text."""
    return encode_and_report(
        console, options.file, options.out, options.vocabulary, options.special_tokens, options.overwrite
    )


def train_and_save(console, paths, vocab_size, folder, special_tokens=(), pattern="gpt2", tie_break="first"):
    """Learn a vocabulary from text files, of which memory holds the distinct pieces alone, and write it to a folder.

    The text of each file is by itself: no piece goes from one into the next. Raises FileExistsError if the folder has
    a vocabulary. The file that holds everything is written first, so that nothing is lost where another format has no
    room for a special token.
    """
    folder = Path(folder)
    if there := next((name for name in FILES + OPENAI if (folder / name).exists()), None):
        raise FileExistsError(f"{folder} has a vocabulary already, {there}; take another folder")
    if folder.exists() and not folder.is_dir() or folder.suffix in (".json", ".tiktoken"):
        raise ValueError(f"--out is {folder}; it must be a folder")
    if wrong := [token for token in special_tokens if not token or replace_surrogates(token) != token]:
        raise ValueError(f"--special-token is {wrong[0]!r}; it must be a text of at least one character")
    for path in paths:
        check_text_file(path)
    with _made(folder):  # if that is not allowed, better now than when all is learned
        merges, tokenizer = _train(console, paths, vocab_size, special_tokens, PATTERNS[pattern], tie_break)
    _report_merges(console, merges)
    _report_size(console, tokenizer, vocab_size)
    _save(console, tokenizer, folder)


@contextmanager
def _made(folder):
    """Make a folder, and take it away again if nothing has come of it."""
    was_there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not was_there:
            with suppress(OSError):
                folder.rmdir()
        raise


def _train(console, paths, vocab_size, special_tokens, pattern, tie_break):
    """The merges, and the tokenizer."""
    merges = []
    with _bar(console) as bar:
        texts = _texts(paths, pattern, special_tokens, bar)
        task = bar.add_task("merges", total=vocab_size - 256 - len(special_tokens), visible=False)

        def note(merge):
            merges.append(merge)
            bar.update(task, completed=len(merges), visible=True)

        return merges, train_bpe(texts, vocab_size, pattern, special_tokens, note, tie_break)


def encode_and_report(console, text_path, out, vocabulary=None, special="refuse", overwrite=False):
    """Write the ids of a text file to a token file, from where it was stopped; return the exit status, 0 or 130."""
    check_text_file(text_path)
    tokenizer, size = load_vocabulary(vocabulary), Path(text_path).stat().st_size
    begun, first, done = time.perf_counter(), None, 0
    with _bar(console) as bar:
        task = bar.add_task("bytes", total=size)

        def progress(read, count):
            nonlocal first, done
            if first is None and read:
                console.print(f"goes on after {read:,} bytes, {count:,} ids", highlight=False)
            first, done = read if first is None else first, read
            bar.update(task, completed=read)

        try:
            count = encode_file(text_path, out, tokenizer, special, overwrite, progress)
        except KeyboardInterrupt:
            saved = f"what was saved, every {SAVE_EVERY >> 20} MiB, the same command does not do again"
            console.print(Text(f"interrupted after {done:,} of {size:,} bytes; {saved}"), soft_wrap=True)
            return 130
    rate = (size - first) / 1e6 / (time.perf_counter() - begun)
    console.print(f"{count:,} ids, {size / max(count, 1):.2f} bytes each; {rate:.1f} MB/s", highlight=False)
    console.print(Text(f"the ids are in {out}"), soft_wrap=True)
    return 0


def load_vocabulary(path=None):
    """GPT-2's tokenizer, or one of a file or folder; of the files of a folder, the one that holds the pattern, too."""
    if path is None:
        return GPT2Tokenizer.load()
    own = Path(path) / VOCABULARY
    return BPETokenizer.load(own if own.is_file() else path)


def _texts(paths, pattern, special_tokens, bar):
    """The texts of all files, block by block; a bar shows how many bytes have been read."""
    task = bar.add_task("bytes", total=sum(Path(path).stat().st_size for path in paths) or None)
    for path in paths:
        for block in read_text_blocks(path, pattern, special_tokens):
            yield block.text
            bar.advance(task, len(block.data))


def _save(console, tokenizer, folder):
    for path in (*(folder / name for name in FILES), folder):  # the folder by itself: OPENAI
        try:
            tokenizer.save(path)
        except ValueError as error:
            console.print(Text(f"{path}: {error}", style="red"), soft_wrap=True)
    console.print(Text(f"the vocabulary is in {folder}"), soft_wrap=True)


def _report_merges(console, merges):
    """The first merges and the last ones."""
    tokens = [visible(readable(merge.token)) for merge in merges]
    if len(tokens) > 2 * SHOWN:
        tokens[SHOWN:-SHOWN] = ["…"]
    console.print(Text("merges  " + "  ".join(tokens)), soft_wrap=True)


def _report_size(console, tokenizer, wanted):
    size = tokenizer.vocab_size
    console.print(f"{size:,} tokens, {len(tokenizer.special_tokens)} of them special", highlight=False)
    if size < wanted:
        console.print(f"the text ran out of pairs to merge before there were {wanted:,}", highlight=False)


def _bar(console):
    columns = (BarColumn(), TextColumn("{task.completed:,.0f} {task.description}"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

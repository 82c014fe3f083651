"""GPT-2's ids: npllm, tiktoken from the same ranks, and every piece merged anew.

npllm remembers the pieces that it has seen: "first time" it starts without that memory, "again" it has it.
"""

import tiktoken

from benchmarks.measure import Job
from npllm import corpora
from npllm.tokenizers import GPT2Tokenizer
from npllm.tokenizers.bpe import merge_by_rank
from npllm.tokenizers.split import split_pieces

# tiktoken's own spelling of GPT-2's pattern
TIKTOKEN_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def jobs():
    """Encode and decode the story, and Tiny Shakespeare where it has been fetched."""
    tokenizer = GPT2Tokenizer.load()
    other = tiktoken.Encoding(
        "gpt2", pat_str=TIKTOKEN_PATTERN, mergeable_ranks=tokenizer.ranks, special_tokens=tokenizer.special_tokens
    )
    for name in ("story", "tinyshakespeare"):
        if corpora.find(name) is None:
            continue
        text = corpora.read(name)
        ids = tokenizer.encode_ordinary(text)
        size = f"{corpora.corpus_named(name).title}, {len(ids):,} ids"
        yield from _jobs(tokenizer, other, text, ids, size, with_loops=name == "story")


def _jobs(tokenizer, other, text, ids, size, with_loops):
    def first_time():
        tokenizer.forget()
        return tokenizer.encode_ordinary(text)

    def merge_every_piece():
        pieces = (piece.encode() for piece in split_pieces(text))
        return [tokenizer.ranks[token] for piece in pieces for token in merge_by_rank(piece, tokenizer.ranks)]

    tiktoken_encodes = {"tiktoken": lambda: other.encode_ordinary(text)}
    yield Job("encode, first time", size, first_time, tiktoken_encodes, merge_every_piece if with_loops else None)
    yield Job("encode, again", size, lambda: tokenizer.encode_ordinary(text), tiktoken_encodes)
    yield Job("decode", size, lambda: tokenizer.decode(ids), {"tiktoken": lambda: other.decode(ids)})

"""Learning the merges: incrementally, and by counting everything again for each of them.

tiktoken brings a trainer for teaching, which does the latter.
"""

from tiktoken._educational import bpe_train

from benchmarks.measure import Job
from benchmarks.tokenizing import TIKTOKEN_PATTERN
from npllm import corpora
from npllm.tokenizers.bpe_training import learn_merges_plain
from npllm.tokenizers.fast.training import learn_merges
from npllm.tokenizers.split import split_pieces

MERGES = 256


def jobs():
    """The first merges of the story."""
    text = corpora.read("story")

    def train(learn):
        return [merge.token for merge in learn([piece.encode() for piece in split_pieces(text)], MERGES)]

    def tiktoken_trains():
        return list(bpe_train(text, 256 + MERGES, TIKTOKEN_PATTERN, visualise=None))[256:]

    yield Job(
        f"train BPE, {MERGES} merges",
        f"{corpora.corpus_named('story').title}, {len(text):,} characters",
        lambda: train(learn_merges),
        {"tiktoken's educational": tiktoken_trains},
        lambda: train(learn_merges_plain),
    )

"""Models before the transformer: word vectors, recurrent networks, and the first attention.

Read in this order: skipgram, negative_sampling, word2vec; recurrent_cells, recurrent; alignment, additive, luong;
seq2seq_decoders, seq2seq.
"""

from npllm.before_transformers.additive import AdditiveAttention
from npllm.before_transformers.luong import ConcatAttention, DotAttention, GeneralAttention
from npllm.before_transformers.recurrent import GRU, LSTM, RNN
from npllm.before_transformers.recurrent_cells import GRUCell, LSTMCell, RNNCell
from npllm.before_transformers.seq2seq import Seq2Seq
from npllm.before_transformers.skipgram import NegativeSampler, cbow_windows, skip_gram_pairs, subsample
from npllm.before_transformers.word2vec import CBOW, SkipGram

__all__ = [
    "CBOW",
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "ConcatAttention",
    "DotAttention",
    "GRUCell",
    "GeneralAttention",
    "LSTMCell",
    "NegativeSampler",
    "RNNCell",
    "Seq2Seq",
    "SkipGram",
    "cbow_windows",
    "skip_gram_pairs",
    "subsample",
]

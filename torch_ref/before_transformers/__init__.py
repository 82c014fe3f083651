"""PyTorch references of npllm.before_transformers."""

from torch_ref.before_transformers.additive import AdditiveAttention
from torch_ref.before_transformers.luong import ConcatAttention, DotAttention, GeneralAttention
from torch_ref.before_transformers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from torch_ref.before_transformers.seq2seq import Seq2Seq
from torch_ref.before_transformers.word2vec import CBOW, SkipGram

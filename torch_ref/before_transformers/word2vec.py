"""word2vec in PyTorch, both models with the full softmax; the loss of negative sampling is in its own file."""

from torch import nn


class SkipGram(nn.Module):
    """The logits of the context words, from the center word."""

    def __init__(self, vocab_size, d_model):
        super().__init__()
        self.word_vectors = nn.Embedding(vocab_size, d_model)
        self.context_vectors = nn.Linear(d_model, vocab_size, bias=False)

    def forward(self, ids):
        """The logits of all words."""
        return self.context_vectors(self.word_vectors(ids))


class CBOW(SkipGram):
    """The logits of the center word, from the context words."""

    def forward(self, ids):
        """The logits of all words."""
        return self.context_vectors(self.word_vectors(ids).mean(dim=-2))

"""word2vec in PyTorch, both models with the full softmax; the sampled loss is in torch_ref.functional."""

from torch import nn


class SkipGram(nn.Module):
    """The words around, from the word in the middle."""

    def __init__(self, vocab_size, d_model):
        super().__init__()
        self.words = nn.Embedding(vocab_size, d_model)
        self.contexts = nn.Linear(d_model, vocab_size, bias=False)

    def forward(self, ids):
        """The logits of all words."""
        return self.contexts(self.words(ids))


class CBOW(SkipGram):
    """The word in the middle, from the words around."""

    def forward(self, ids):
        """The logits of all words."""
        return self.contexts(self.words(ids).mean(dim=-2))

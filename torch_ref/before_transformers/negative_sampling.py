"""The loss of negative sampling in PyTorch."""

from torch.nn import functional as F


def negative_sampling(x, weight, targets, negatives):
    """Logistic losses of the target and of K negative samples, summed; the mean over all targets."""
    positive = (F.embedding(targets, weight) * x).sum(dim=-1)
    negative = (F.embedding(negatives, weight) * x.unsqueeze(-2)).sum(dim=-1)
    return -(F.logsigmoid(positive) + F.logsigmoid(-negative).sum(dim=-1)).mean()

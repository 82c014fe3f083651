"""What every attention layer shares: the checks of its input, and the weights on request."""

import numpy as np

from npllm.core.module import Module


class Attention(Module):
    """An attention layer; its cache holds the core's under the name `attention`."""

    def attention_weights(self, x):
        """The weights A behind `self(x)`: row t says how much position t takes from each position s."""
        return self.forward(x)[1].attention.weights


def document_ids_per_head(document_ids, x):
    """Documents (..., T) of x (..., T, C), with an axis for the heads: (..., 1, T). None stays None.

    Raises ValueError unless they have one number for every position of x.
    """
    if document_ids is None:
        return None
    document_ids, shape = np.asarray(document_ids), np.shape(x)[:-1]
    if document_ids.shape not in (shape, shape[-1:]):
        raise ValueError(
            f"documents has shape {document_ids.shape}; it must have one number for every position, {shape}"
        )
    return document_ids[..., None, :]


def reject_document_ids(document_ids):
    """Raise ValueError for documents beside a past: a text that is read in pieces is a single document."""
    if document_ids is not None:
        raise ValueError("documents and past are both set; a past is of one text, so documents must be None with it")

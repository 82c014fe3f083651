"""The texts of the goldens, where they are found: NPLLM_DATA, or the cache that `npllm data fetch` fills."""

import pytest

from npllm.utils import corpora


def text_of(name):
    """A text by name; skip the test if it is missing, and name the command that fetches it."""
    if corpora.find(name) is None:
        pytest.skip(f"needs the text {name}: npllm data fetch {name}")
    return corpora.read(name)

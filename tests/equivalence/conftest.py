import types

import pytest

from tests.equivalence.lookup import set_candidate


@pytest.fixture
def candidate():
    """An empty module under test: what a test puts there replaces npllm's function or class of that name."""
    module = types.SimpleNamespace()
    before = set_candidate(module)
    yield module
    set_candidate(before)

"""A short round of every kind of file with a fixed seed; `python -m tests.fuzz` runs them for as long as you like."""

import sys

import numpy as np
import pytest

from tests.fuzz.calls import calls
from tests.fuzz.commands import commands
from tests.fuzz.corpus.test_corpus import READERS
from tests.fuzz.edges import edges
from tests.fuzz.readers import check_reader

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits are those of Linux")


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_by_name_or_usable(name):
    check_reader(name, READERS[name], np.random.default_rng(0), number=12 if READERS[name].number > 50 else 2)


@pytest.mark.parametrize("check", [edges, calls, commands])
def test_a_round(check):
    assert check(np.random.default_rng(0), number=10) >= 10

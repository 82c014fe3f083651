"""Each file that once had a wrong outcome is refused with an error that names it, or is usable."""

import sys

import pytest

from tests.fuzz import data_files, model_files, run_files, vocabulary_files, weight_files
from tests.fuzz.corpus import cases
from tests.fuzz.readers import problem, try_contents

READERS = data_files.READERS | model_files.READERS | run_files.READERS | vocabulary_files.READERS | weight_files.READERS
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits are those of Linux")


@pytest.mark.parametrize("name, failure, content", [pytest.param(*case, id=case[1]) for case in cases()])
def test_a_past_failure_is_no_longer_one(name, failure, content):
    [(_, outcome)] = try_contents(READERS[name], [content])
    assert problem(READERS[name], outcome) is None

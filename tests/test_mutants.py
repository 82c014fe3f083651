"""Every well-known bug must turn the suite red; see tests/mutants.py."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mutants import MUTANTS, ROOT, is_caught


@pytest.fixture(scope="module")
def verdicts(request):
    """Whether each of the selected bugs is caught, as futures by name: there is a suite under way for every core."""
    items = [item for item in request.session.items if item.originalname == "test_the_bug_is_caught"]
    chosen = [item.callspec.params["mutant"] for item in items]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {mutant.name: pool.submit(is_caught, mutant) for mutant in chosen}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_bug_is_caught(mutant, verdicts):
    assert verdicts[mutant.name].result(), f"{mutant.tests} stays green with this bug: {mutant.name}"


def test_every_bug_has_a_place_of_its_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1, mutant.name
        assert (ROOT / mutant.tests).exists(), mutant.name

"""Every well-known bug must turn the suite red; see tests/mutants.py."""

import pytest

from tests.mutants import MUTANTS, ROOT, is_caught


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_bug_is_caught(mutant):
    assert is_caught(mutant), f"{mutant.tests} stays green with this bug: {mutant.name}"


def test_every_bug_has_a_place_of_its_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1, mutant.name
        assert (ROOT / mutant.tests).exists(), mutant.name

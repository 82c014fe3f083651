"""Cases in a child process: what each outcome says, and that the next case runs."""

import os
import signal
import sys
import time

import pytest

from tests.fuzz.isolated import GIB, isolated, run_isolated

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits are those of Linux")


def behave(what):
    if what == "raise":
        raise KeyError("a")
    if what == "hang":
        time.sleep(60)
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "allocate":
        bytearray(100 * 2**20)
    if what == "allocate too much":
        bytearray(2 * GIB)
    return what


def test_each_case_has_its_own_outcome():
    cases = ["fine", "raise", "crash", "fine", "allocate", "allocate too much", "fine"]
    outcomes = list(isolated(behave, cases, timeout=60, memory=GIB))
    kinds = [(outcome.kind, outcome.error) for outcome in outcomes]
    assert kinds == [
        ("returned", ""), ("raised", "KeyError"), ("signal", "SIGSEGV"), ("returned", ""), ("returned", ""),
        ("raised", "MemoryError"), ("returned", ""),
    ]  # fmt: skip
    assert outcomes[1].bases[:2] == ("KeyError", "LookupError") and "behave" in outcomes[1].traceback
    assert 90 * 2**20 < outcomes[4].peak < 120 * 2**20
    assert outcomes[6].peak < 5 * 2**20, "the peak of an earlier case is not counted"


def test_the_case_after_one_that_does_not_end_runs():
    outcomes = list(isolated(behave, ["hang", "fine"], timeout=5))  # a busy machine may need seconds for the second
    assert [(outcome.kind, outcome.error) for outcome in outcomes] == [("timeout", "timeout"), ("returned", "")]


def test_a_large_result_arrives_and_one_that_cannot_be_sent_is_an_error():
    assert run_isolated(bytes, 3 * 2**20).result == bytes(3 * 2**20)
    outcome = run_isolated(lambda: lambda: 0)
    assert outcome.kind == "raised" and "pickle" in outcome.message

"""Signals that this process sends to itself."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from npllm.utils import signals
from npllm.utils.signals import (
    SIGNALS,
    TerminationSignal,
    defer_signals,
    describe_interruption,
    raise_on_signals,
    signal_behind,
)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGHUP")
def test_the_signals_that_end_a_command():
    assert SIGNALS == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def send(number):
    """Send the signal; its handler runs before the call returns."""
    signal.raise_signal(number)


@pytest.fixture(autouse=True)
def handlers():
    """Python's own handlers during the test; those of before are restored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def installed():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_and_the_handlers_are_restored(number):
    before = installed()
    with pytest.raises(KeyboardInterrupt) as raised, raise_on_signals():
        send(number)
    assert signal_behind(raised.value) == number
    assert isinstance(raised.value, TerminationSignal) == (number != signal.SIGINT)
    assert installed() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_recorded_and_the_second_one_raises(number, monkeypatch):
    monkeypatch.setattr(signals, "REPETITION", 0.0)
    before = installed()
    with defer_signals() as received:
        assert received() is None
        send(number)
        assert received() == number
        with pytest.raises(KeyboardInterrupt):
            send(number)
    assert installed() == before


def test_a_repetition_within_a_fifth_of_a_second_is_not_a_second_signal():
    with defer_signals() as received:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert received() == signal.SIGTERM
    with raise_on_signals():
        with pytest.raises(TerminationSignal):
            send(signal.SIGTERM)
        send(signal.SIGINT)


@pytest.mark.parametrize("context", [raise_on_signals, defer_signals])
def test_an_ignored_signal_stays_ignored(context):
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with context():
        assert installed() == [signal.SIG_IGN] * len(SIGNALS)
        send(signal.SIGTERM)
    assert installed() == [signal.SIG_IGN] * len(SIGNALS)


def test_an_output_error_after_a_signal_is_that_signal():
    with pytest.raises(TerminationSignal), defer_signals():
        send(signal.SIGTERM)
        raise OSError("the terminal is closed")
    with pytest.raises(OSError, match="disk"), defer_signals():
        raise OSError("disk full")


def test_other_threads_install_nothing():
    found = []

    def run():
        with raise_on_signals(), defer_signals() as received:
            found.extend([installed(), received()])

    before = installed()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before, None]


def test_the_signal_behind_an_error():
    assert signal_behind(None) is signal_behind(ValueError()) is None
    try:
        try:
            raise TerminationSignal(15)
        finally:
            raise OSError("cleanup failed")
    except OSError as error:
        assert signal_behind(error) == 15


def test_messages():
    assert describe_interruption(signal.SIGINT) == "interrupted"
    assert describe_interruption(signal.SIGTERM) == "interrupted by SIGTERM"


@pytest.mark.parametrize("number", SIGNALS)
def test_exit_on_signals_ends_the_process_with_128_plus_n(number):
    code = "import time; from npllm.utils.signals import exit_on_signals as e; e(); print(flush=True); time.sleep(60)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.getcwd()}, **pipes)
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(number)
    error = process.communicate(timeout=30)[1]
    assert (process.returncode, error.decode().strip()) == (128 + number, describe_interruption(number))

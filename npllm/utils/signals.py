"""Signals that end a command: SIGINT (Ctrl-C), SIGTERM (by `kill`, containers, schedulers), SIGHUP (terminal closed).

    exit_on_signals()                 a signal ends the process at once, for the time of the imports
    with raise_on_signals(): …        a signal raises KeyboardInterrupt, or its subclass TerminationSignal
    with defer_signals() as received  a first signal is recorded, received() returns its number; a second one raises

A signal that is ignored when a handler is to be installed stays ignored, as SIGHUP under nohup. Windows has no SIGHUP.
Python runs the handlers in the main thread, between two bytecodes. The exit status of a command that signal n ended is
128 + n.

POSIX.1-2017, Shell Command Language, section 2.8.2.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
REPETITION = 0.2  # seconds; `timeout` sends its signal to the process and to its group: a repetition, not a second one


class TerminationSignal(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received; `number` is that of the signal."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def exit_on_signals() -> None:
    """From now on a signal ends the process at once, without a traceback and without a cleanup."""
    _install(_exit)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """In the `with` block a signal raises KeyboardInterrupt or TerminationSignal. Repetitions within 0.2 s do not."""
    last = float("-inf")

    def handler(number: int, frame: object) -> None:
        nonlocal last
        repeated, last = time.monotonic() - last < REPETITION, time.monotonic()
        if not repeated:
            raise_signal(number)

    with _installed(handler):
        yield


@contextmanager
def defer_signals() -> Iterator[Callable[[], int | None]]:
    """A function that returns the number of the first signal, or None; a second signal raises.

    After a signal, an OSError that leaves the block becomes the exception of the signal: the output to a terminal fails
    after it was closed.
    """
    received, last = None, float("-inf")

    def handler(number: int, frame: object) -> None:
        nonlocal received, last
        repeated, last = time.monotonic() - last < REPETITION, time.monotonic()
        if received is None:
            received = number
        elif not repeated:
            raise_signal(number)

    with _installed(handler):
        try:
            yield lambda: received
        except OSError:
            if received is not None:
                raise_signal(received)
            raise


def raise_signal(number: int) -> None:
    """Raise KeyboardInterrupt for SIGINT, TerminationSignal for another signal."""
    raise KeyboardInterrupt if number == signal.SIGINT else TerminationSignal(number)


def signal_behind(error: BaseException | None) -> int | None:
    """The number of the signal whose exception this is, or during whose handling it was raised; None without one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    if error is None:
        return None
    return error.number if isinstance(error, TerminationSignal) else int(signal.SIGINT)


def describe_interruption(number: int) -> str:
    """The message for a command that a signal ended: "interrupted", or "interrupted by SIGTERM"."""
    return "interrupted" if number == signal.SIGINT else f"interrupted by {signal.Signals(number).name}"


def _exit(number: int, frame: object) -> None:
    with suppress(OSError):  # standard error may be closed
        os.write(2, f"{describe_interruption(number)}\n".encode())
    os._exit(128 + number)


@contextmanager
def _installed(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = _install(handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _install(handler: Callable[[int, object], None]) -> dict[int, Any]:
    """Install a handler for each signal that is not ignored; return the previous ones. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    # None stands for a handler that Python did not install, and could not restore
    numbers = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, handler) for number in numbers}

"""Run cases in a forked child with a memory limit and a timeout, and measure the peak of each.

    for outcome in isolated(read_model, damaged_folders, timeout=20):
        outcome.kind      "returned", "raised", "timeout" or "signal"

One child runs the cases one after the other, until one of them ends it: then a new child goes on with the next case. A
case gets all that the parent has in memory; what it changes is seen by later cases of the same child alone.
"""

import faulthandler
import os
import pickle
import resource
import select
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

GIB = 2**30


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    kind         "returned", "raised", "timeout" or "signal"
    result       what the function returned
    error        name of the exception or of the signal
    bases        names of the exception's classes, from its own to BaseException
    message      of the exception
    traceback    of the exception
    peak         how many bytes of memory the case added at most to those of the process
    seconds      how long it took
    """

    kind: str
    result: Any = None
    error: str = ""
    bases: tuple[str, ...] = ()
    message: str = ""
    traceback: str = ""
    peak: int = 0
    seconds: float = 0.0


def isolated(
    function: Callable[[Any], Any], cases: Sequence[Any], timeout: float = 20.0, memory: int = 3 * GIB
) -> Iterator[Outcome]:
    """The outcome of function(case) for each case. The result of the function must be one that pickle can hold.

    timeout   seconds for each case
    memory    bytes of address space that the child may have more than this process
    """
    done = 0
    while done < len(cases):
        child, pipe = _start(function, cases[done:], memory)
        try:
            while done < len(cases):
                outcome = _receive(pipe, timeout)
                done += 1
                if outcome is None:  # the child ended, or has to be ended
                    break
                yield outcome
            else:
                continue
        finally:
            os.close(pipe)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        yield _ended(status, timeout)


def run_isolated(function: Callable[..., Any], *arguments: Any, **limits: Any) -> Outcome:
    """The outcome of one call function(*arguments); `limits` as for `isolated`."""
    return next(iter([*isolated(lambda case: function(*case), [arguments], **limits)]))


def _start(function, cases, memory) -> tuple[int, int]:
    """Fork; return the child's id and the end of a pipe from which its outcomes are read."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of threads; OpenBLAS's are made anew in the child
        child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    status = 1
    try:
        os.close(reader)
        limit = _memory("VmSize") + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()  # the parent reports the signal
        for case in cases:
            content = pickle.dumps(_outcome(function, case))
            _write(writer, struct.pack("<Q", len(content)) + content)
        status = 0
    finally:
        os._exit(status)


def _outcome(function, case) -> Outcome:
    _reset_peak()
    before, start = _memory("VmRSS"), time.monotonic()
    try:
        fields = {"kind": "returned", "result": function(case)}
        pickle.dumps(fields)
    except BaseException as error:
        fields = {
            "kind": "raised", "error": type(error).__name__, "message": _message(error),
            "bases": tuple(base.__name__ for base in type(error).__mro__),
            "traceback": "".join(traceback.format_exception(error, limit=-8))[-4000:],
        }  # fmt: skip
    return Outcome(**fields, peak=_memory("VmHWM") - before, seconds=time.monotonic() - start)


def _message(error: BaseException) -> str:
    try:
        return str(error)[:10_000]
    except Exception as second:
        return f"its message raises {type(second).__name__}: {second}"


def _receive(pipe: int, timeout: float) -> Outcome | None:
    """The next outcome, or None if there is none in time or the child has ended."""
    end = time.monotonic() + timeout
    header = _read(pipe, 8, end)
    content = header and _read(pipe, struct.unpack("<Q", header)[0], end + 10)
    return pickle.loads(content) if content else None


def _read(pipe: int, size: int, end: float) -> bytes | None:
    content = b""
    while len(content) < size:
        if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            return None
        more = os.read(pipe, min(size - len(content), 1 << 20))
        if not more:
            return None
        content += more
    return content


def _write(pipe: int, content: bytes) -> None:
    while content:
        content = content[os.write(pipe, content) :]


def _ended(status: int, timeout: float) -> Outcome:
    """The outcome of a case during which the child ended; SIGKILL is what the parent sends after the timeout."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGKILL:
        return Outcome("timeout", error="timeout", message=f"not finished after {timeout:g} s", seconds=timeout)
    name = signal.Signals(number).name if number else f"exit status {os.WEXITSTATUS(status)}"
    return Outcome("signal", error=name, message=f"the process ended with {name}")


def _reset_peak() -> None:
    """Let the peak (VmHWM) begin again at the present size, where the system can do that (Linux)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _memory(name: str) -> int:
    """A field of /proc/self/status in bytes; 0 on other systems."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0

"""Run rounds of random cases in turn until the time is over, and record every failure so that it can be repeated.

A round is a function of a NumPy Generator that runs some random cases and returns their number. It raises
AssertionError at the first failure, best a `Finding`, which carries the case. In pass k of a run with seed s each round
gets the Generator of seed s + k, so `--rounds NAME --seed S+K --minutes 0` repeats one round of one pass.
"""

import json
import re
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Round = Callable[[np.random.Generator], int]


class Finding(AssertionError):
    """A case that has a wrong outcome.

    case     what was tried: bytes, or a value that JSON can hold
    kind     equal for failures with one cause, which are reported once (default: the message without its values)
    others   further findings of the same round
    tried    how many cases the round has tried
    """

    def __init__(self, message: str, case: Any = None, kind: str = ""):
        super().__init__(message)
        self.case, self.kind = case, kind
        self.others: list[Finding] = []
        self.tried = 0


def run(
    subject: str, rounds: Mapping[str, Round], seed: int, minutes: float, keep_going: bool, folder: Path
) -> dict[str, str]:
    """Run the rounds, print a report, and return the findings: what was said by the kind of failure."""
    print(f"seed {seed}", flush=True)
    end = time.monotonic() + 60 * minutes
    cases, seconds = dict.fromkeys(rounds, 0), dict.fromkeys(rounds, 0.0)
    findings: dict[str, str] = {}
    for pass_seed, name in _turns(seed, rounds, end):
        start = time.monotonic()
        try:
            cases[name] += rounds[name](np.random.default_rng(pass_seed))
        except Exception as error:
            cases[name] += getattr(error, "tried", 0)
            for one in [error, *getattr(error, "others", ())]:
                kind = f"{name}: {_kind(one)}"
                if kind not in findings:
                    command = f"{subject} --rounds {name!r} --seed {pass_seed}"
                    findings[kind] = _record(one, command, folder, len(findings))
                    print(findings[kind], flush=True)
            if not keep_going:
                break
        finally:
            seconds[name] += time.monotonic() - start
    _report(cases, seconds, findings)
    return findings


def _turns(seed: int, rounds: Mapping[str, Round], end: float):
    """(seed, name of the round), each at least once, until the time is over."""
    for name in rounds:
        yield seed, name
    while time.monotonic() < end:
        seed += 1
        for name in rounds:
            if time.monotonic() < end:
                yield seed, name


def _kind(error: Exception) -> str:
    """The error without what differs between cases of one kind: numbers, and what is in quotation marks."""
    if getattr(error, "kind", ""):
        return error.kind
    text = f"{type(error).__name__} {error}".split("\n")[0]
    return re.sub(r"'[^']*'|\"[^\"]*\"|/tmp/\S*|0x[0-9a-f]+|[-+]?\d[\d.e+]*", "#", text)[:160]


def _record(error: Exception, command: str, folder: Path, number: int) -> str:
    """Write the case and what was said into the folder; return what was said and how to repeat it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.]+", "-", f"{command.replace('--rounds', '').replace('--seed', '')} {number}")
    said = "".join(traceback.format_exception(error)) if not isinstance(error, Finding) else str(error)
    case = getattr(error, "case", None)
    text = f"{said.rstrip()}\nrepeat with: python -m tests.fuzz {command} --minutes 0\n"
    if case is not None:
        path = folder / f"{stem}.{'bin' if isinstance(case, bytes) else 'json'}"
        path.write_bytes(case if isinstance(case, bytes) else json.dumps(case).encode())
        text += f"the case is in {path}\n"
    (folder / f"{stem}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
    return text.encode("utf-8", "backslashreplace").decode()


def _report(cases: Mapping[str, int], seconds: Mapping[str, float], findings: Mapping[str, str]) -> None:
    for name, number in cases.items():
        per_minute = 60 * number / max(seconds[name], 1e-9)
        print(f"{name:32} {number:12,} cases {seconds[name]:8.1f} s {per_minute:12,.0f} a minute")
    total = 60 * sum(cases.values()) / max(sum(seconds.values()), 1e-9)
    print(f"{'all':32} {sum(cases.values()):12,} cases {sum(seconds.values()):8.1f} s {total:12,.0f} a minute")
    for number, kind in enumerate(findings, start=1):
        print(f"finding {number}: {kind}")
    print(f"{len(findings)} kinds of failure" if findings else "no failure", flush=True)

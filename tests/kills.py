"""End commands by signals at random moments, run them again, and compare the files: python -m tests.kills --minutes N

    command → signal at a random moment → the same command again, or --resume → the bytes of an uninterrupted run

Each try takes the next command and the next signal, in a new folder. A try fails for another exit status than 128 + n
(−n for SIGKILL, and for a signal before Python has installed a handler), a traceback, a second run that does not end
in time or with 0, and for any file that is missing, different or left over. The corpus and the model are downloaded
from slow servers on this machine.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npllm.utils.corpora import CORPORA
from npllm.utils.markdown import markdown_table
from tests.models.wheels import Index, make_wheel
from tests.utils.text_server import TextServer

ROOT = Path(__file__).parent.parent
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
TIMEOUT = 120  # seconds that a command may take
NOT_COMPARED = ("loss.png",)
SMALL = {"num-layers": 1, "num-heads": 2, "d-model": 16, "context-length": 16, "batch-size": 2}
SHORT = {"num-steps": 30, "eval-interval": 10, "eval-batches": 1, "checkpoint-interval": 1, "threads": 1}
FETCH = """
import sys
from npllm.utils.signals import exit_on_signals
exit_on_signals()
from dataclasses import replace
from npllm.cli.main import main
from npllm.models.catalog import MODELS, PublishedModel
from npllm.utils.corpora import CORPORA
url, sha256, model = sys.argv[1], sys.argv[2], eval(sys.argv[3])
CORPORA["tinyshakespeare"] = replace(CORPORA["tinyshakespeare"], url=url, sha256=sha256)
MODELS[model.name] = model
sys.exit(main(sys.argv[4:]))
"""


@dataclass
class Command:
    """A command in a folder of its own: the program, its arguments, and those that continue a training run."""

    program: list[str]
    arguments: list[str]
    resume: list[str] | None = None
    seconds: float = 0.0  # of an uninterrupted run
    expected: dict[str, str] | None = None  # the files that it writes, with their hashes

    def start(self, folder: Path) -> subprocess.Popen:
        """Start it, or continue it if the folder has a run."""
        resumes = self.resume and (folder / "out" / "run.json").exists()
        environment = os.environ | {"HOME": str(folder), "XDG_CACHE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
        environment |= {"NPLLM_DATA": "", "NPLLM_MODELS": "", "OMP_NUM_THREADS": "1"}
        environment["MPLCONFIGDIR"] = str(Path.home() / ".cache" / "matplotlib")  # the fonts are listed once
        return subprocess.Popen(
            [*self.program, *(self.resume if resumes else self.arguments)], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def finish(self, folder: Path) -> None:
        """Run it to its end, and check status, messages and, if they are known, the files."""
        process = self.start(folder)
        output, errors = _wait(process)
        is_complete = process.returncode == 0 or self.expected and _is_complete(process, errors)
        assert is_complete, f"exit status {process.returncode}: {output + errors!r}"
        files = hashes(folder)
        if self.expected is not None:
            differences = {name for name in {*files, *self.expected} if files.get(name) != self.expected.get(name)}
            assert not differences, f"missing, different or left over: {sorted(differences)}; {errors!r}"
        self.expected = files


def main(arguments: list[str] | None = None) -> int:
    """Run for the given time; return 1 if a try failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", metavar="N", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", metavar="N", type=int, default=int(time.time()), help="default: the time")
    parser.add_argument("--command", metavar="TEXT", default="", help="only the commands whose name contains this")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    for sent in SIGNALS[1:]:  # commands inherit a signal that is ignored, as SIGHUP under nohup
        signal.signal(getattr(signal, sent), signal.SIG_DFL)
    rng, end = np.random.default_rng(options.seed), time.monotonic() + 60 * options.minutes
    done, failed = Counter(), Counter()
    with prepared() as commands:
        commands = {name: command for name, command in commands.items() if options.command in name}
        for command in commands.values():
            _measure(command)
        for number, (name, sent) in zip(itertools.count(), itertools.cycle(itertools.product(commands, SIGNALS))):
            if time.monotonic() > end:
                break
            try:
                done[name, sent] += interrupt(commands[name], getattr(signal, sent), rng)
            except AssertionError as error:
                failed[name, sent] += 1
                print(f"try {number}, {name}, {sent}: {error}", flush=True)
    print(report(commands, done, failed))
    return 1 if failed else 0


def interrupt(command: Command, number: int, rng: np.random.Generator) -> int:
    """One try: one or two signals in a row, then the run to the end; return how many met a running process."""
    count = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for _ in range(rng.integers(1, 3)):
            process = command.start(folder)
            time.sleep(rng.uniform(0.05, command.seconds))
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            output, errors = _wait(process)
            assert b"Traceback" not in errors + output, f"{errors.decode(errors='replace')[-1500:]}"
            status = process.returncode
            if status == 0 or _is_complete(process, errors):
                break
            assert status in (128 + number, -number), f"exit status {status}: {output + errors!r}"
            count += 1
        command.finish(folder)
    return count


@contextlib.contextmanager
def prepared() -> Iterator[dict[str, Command]]:
    """The commands by name; texts, a vocabulary and a run that they need are in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder, text = Path(name), ROOT / "data" / "weather-permitting.txt"
        shutil.copy(text, folder / "text")
        (folder / "large").write_bytes(text.read_bytes() * (40_000_000 // text.stat().st_size))
        npllm = [sys.executable, "-m", "npllm"]
        train = ["train", "--text", str(folder / "text"), *_options(SMALL | SHORT)]
        Command(npllm, [*train, "--out", "out"]).finish(folder)
        (folder / "out").rename(folder / "run")
        wheel, model = make_wheel(folder)
        content = np.random.default_rng(0).bytes(CORPORA["tinyshakespeare"].size)
        resume = ["train", "--out", "out", "--resume", "--checkpoint-interval", "1"]
        fine_tune = ["train", "--init-from", str(folder / "run"), "--text", str(folder / "text"), *_options(SHORT)]
        with TextServer(content) as server, Index(wheel, seconds=1.0) as index:
            server.serve(content, seconds=1.0)
            os.environ["PIP_INDEX_URL"] = index.url
            fetch = [sys.executable, "-c", FETCH, server.url, hashlib.sha256(content).hexdigest(), repr(model)]
            yield {
                "train": Command(npllm, [*train, "--out", "out"], resume),
                "train --init-from": Command(npllm, [*fine_tune, "--context-length", "16", "--out", "out"], resume),
                "bpe encode": Command(npllm, ["bpe", "encode", str(folder / "large"), "--out", "out.tokens"]),
                "bpe train": Command(
                    npllm, ["bpe", "train", str(folder / "text"), "--vocab-size", "600", "--out", "out"]
                ),
                "export": Command(npllm, ["export", "--model", str(folder / "run"), "--out", "out"]),
                "data fetch": Command(fetch, ["data", "fetch", "tinyshakespeare"]),
                "models fetch": Command(fetch, ["models", "fetch", "tiny"]),
            }


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, of log.jsonl without its times."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in NOT_COMPARED:
            content = path.read_bytes()
            if path.name == "log.jsonl":
                records = [json.loads(line) | {"tokens_per_second": 0} for line in content.splitlines()]
                content = json.dumps(records).encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def report(commands: dict[str, Command], done: Counter, failed: Counter) -> str:
    """A table: signals that met a running process, and failures, by command and signal."""
    lines = [
        [
            name,
            *(f"{done[name, sent]}" + f", {failed[name, sent]} failed" * (failed[name, sent] > 0) for sent in SIGNALS),
        ]
        for name in commands
    ]
    return f"{markdown_table(['command', *SIGNALS], lines)}\n{done.total()} signals, {failed.total()} failures"


def _is_complete(process: subprocess.Popen, errors: bytes) -> bool:
    """Whether the command refused to run because its files exist; whether they are right, their hashes show."""
    return process.returncode == 1 and (b"already" in errors or b"which has" in errors)


def _options(values: dict[str, int]) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def _measure(command: Command) -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        command.finish(Path(folder))
        command.seconds = time.monotonic() - start


def _wait(process: subprocess.Popen) -> tuple[bytes, bytes]:
    """What the process prints until its end; its own children, such as pip, are ended too."""
    try:
        return process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{process.args} does not end in {TIMEOUT} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())

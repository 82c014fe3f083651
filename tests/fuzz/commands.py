"""Random command lines: valid ones with up to three odd options, in a forked child, in a folder that is made for them.

A command ends with 0, 1, 2 or 130, in time and without a traceback; where it fails, it says why on standard error.
"""

import argparse
import os
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

from npllm.cli.main import build_parser, main
from tests.fuzz.isolated import isolated
from tests.fuzz.runner import Finding

TEXT = "the ferry left at nine, and the harbour was quiet.\n" * 20
SMALL = "--num-layers 1 --num-heads 2 --d-model 16 --context-length 16 --batch-size 2 --eval-batches 1 --threads 1"
COMMANDS = {  # command: valid arguments with which it ends soon
    "tokenize": "words",
    "data": "",
    "models": "",
    "bpe train": "text.txt --vocab-size 280 --out new",
    "bpe encode": "text.txt --out new.tokens",
    "bpe decode": "40 367",
    "attention": "",
    "word2vec": "--text text.txt --steps 2",
    "seq2seq": "--steps 2",
    "train": f"--text text.txt --out new --num-steps 2 {SMALL}",
    "generate": "--model run --prompt the --max-new-tokens 2 --threads 1",
    "chat": "--model run --prompt the --max-new-tokens 2 --threads 1",
    "export": "--model run --out exported",
}
STEPS = {"num_steps", "steps", "max_new_tokens"}  # a large number of them takes long, as it must
LARGE = ("99999999999999999999", "1000000000")
ODD = (
    "", " ", "-1", "0", "1", "2", "3", "2.5", "1e3", "nan", "inf", "-inf", "1e400", "1e-320", "True", "None",
    "0x10", "１２", "1_000", "--", "-", "a\x1b[31mb", "\udcff", "é" * 300, "a\nb", "0=1", "0=nan", "99999999=3",
    "=", "..", ".", "/", "/dev/null", "text.txt", "run", "run/run.json", "nowhere", "nowhere/deep/file", "empty.txt",
    "binary.bin", "pipe", "locked", *LARGE,
)  # fmt: skip
STATUSES = (0, 1, 2, 130)
TIMEOUT = 60.0


def commands(rng: np.random.Generator, number: int = 20) -> int:
    """Random command lines, each in a copy of a folder with a text, a run and files of other kinds."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        _prepare(template)
        lines = [random_line(rng) for _ in range(number)]
        for line, outcome in zip(lines, isolated(lambda line: _run(line, template), lines, timeout=TIMEOUT)):
            problem = _problem(outcome)
            if problem:
                raise Finding(f"{problem}\nnpllm {line}", line, kind=f"{line[0]}: {problem:.80}")
    return number


def random_line(rng: np.random.Generator) -> list[str]:
    """The arguments of a command, with one to three odd values or options."""
    name = str(rng.choice(list(COMMANDS)))
    options = [action for action in _actions(name) if action.option_strings and action.dest != "help"]
    line = [*name.split(), *COMMANDS[name].split()]
    for _ in range(rng.integers(1, 4)):
        if options and rng.random() < 0.8:
            action = options[rng.integers(len(options))]
            line += [action.option_strings[0]] + [_odd(action, rng)] * (action.nargs != 0)
        else:
            line.insert(int(rng.integers(len(name.split()), len(line) + 1)), str(rng.choice(ODD[: -len(LARGE)])))
    return line


def _odd(action, rng):
    values = [value for value in ODD if not (action.dest in STEPS and value in (*LARGE, "1e3", "1_000"))]
    values += [str(choice) for choice in action.choices or ()]
    return values[rng.integers(len(values))]


def _actions(name):
    """The actions of the parser of a command, such as `bpe train`."""
    parser = build_parser(name.split())
    for word in name.split():
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = commands.choices[word]
    return parser._actions


def _prepare(folder: Path) -> None:
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    (folder / "empty.txt").write_text("")
    (folder / "binary.bin").write_bytes(bytes(range(256)))
    with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
        status = main(
            [
                "train",
                "--text",
                str(folder / "text.txt"),
                "--out",
                str(folder / "run"),
                "--num-steps",
                "2",
                *SMALL.split(),
            ]
        )
    assert status == 0
    os.mkfifo(folder / "pipe")
    (folder / "locked").mkdir(mode=0o500)


def _run(line: list[str], template: Path) -> tuple[object, str]:
    """(exit status, standard error) of a command in a copy of the folder."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        shutil.copytree(template, work, ignore=shutil.ignore_patterns("pipe"))
        os.mkfifo(work / "pipe")
        os.chdir(work)
        os.environ |= {"NPLLM_DATA": folder, "NPLLM_MODELS": folder, "XDG_CACHE_HOME": folder, "HOME": folder}
        with open(Path(folder) / "out", "w+") as out, open(Path(folder) / "error", "w+") as error:
            sys.stdin = open(os.devnull)  # noqa: SIM115
            with redirect_stdout(out), redirect_stderr(error):
                try:
                    status = main(line)
                except SystemExit as stopped:
                    status = stopped.code
            error.seek(0)
            said = error.read()
        os.chdir("/")
    return status, said


def _problem(outcome) -> str:
    """What is wrong with the outcome of a command; empty if nothing is."""
    if outcome.kind != "returned":
        return f"{outcome.error}: {outcome.message}\n{outcome.traceback}"
    status, said = outcome.result
    if status not in STATUSES:
        return f"exit status {status!r}"
    if "Traceback" in said:
        return f"a traceback: {said}"
    if status and not said.strip():
        return f"exit status {status} without a message"
    if any(not character.isprintable() and character != "\n" for character in said):
        return f"control characters: {said!r}"
    return ""


ROUNDS = {"commands": commands}

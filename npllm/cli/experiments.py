"""`npllm experiments`: list the experiments, or run some of them and print their verdicts."""

import argparse
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from npllm.cli.options import (
    INSTALL_MATPLOTLIB,
    UsageError,
    add_seed_option,
    add_threads_option,
    check_output_folder,
    has_matplotlib,
    use_threads,
)


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("experiments", help="measure what is claimed about LLMs, with controls")
    command.add_argument("names", metavar="NAME", nargs="*", help="experiments to run (default: list all)")
    command.add_argument("--full", action="store_true", help="the careful version: more seeds, larger sizes")
    command.add_argument(
        "--out", metavar="FOLDER", help="also write NAME.json and NAME.svg, a figure, into this folder"
    )
    add_seed_option(command)
    add_threads_option(command)
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """List the experiments, or run each one that is named.

    Raises ValueError for an unknown name, before anything is run.
    """
    from npllm.experiments import catalog

    if not options.names:
        if options.full or options.out is not None:
            raise UsageError(f"{'--full' if options.full else '--out'} needs the NAME of an experiment")
        console.print(_catalog())
        return
    experiments = [catalog.load(name) for name in dict.fromkeys(options.names)]
    if options.out is not None:
        check_output_folder("--out", options.out)
        if not has_matplotlib():
            raise ValueError(f"--out needs matplotlib for the figures: {INSTALL_MATPLOTLIB}")
    with use_threads(console, options.threads):
        for experiment in experiments:
            _run(console, experiment, options)


def _catalog() -> Table:
    """The names, the claims, and the verdicts of the runs that ship with the project."""
    from npllm.experiments import catalog
    from npllm.experiments.results_file import shipped

    table = Table(show_edge=False)
    table.add_column("experiment", no_wrap=True)
    for name in ("claim", "verdict of the full run"):
        table.add_column(name, overflow="fold")
    for name in catalog.NAMES:
        content = shipped(name)
        table.add_row(name, catalog.load(name).claim, content["verdict"]["outcome"] if content else "not run")
    return table


def _run(console: Console, experiment: Any, options: argparse.Namespace) -> None:
    scale = "full" if options.full else "default"
    console.print()
    for label, text in (
        ("claim", experiment.claim),
        ("question", experiment.question),
        ("setting", experiment.setting),
        ("measure", experiment.measure),
        ("rule", experiment.rule),
    ):
        console.print(Text(f"{label:<9} {text}"))
    started = time.perf_counter()
    results = experiment.run(scale, options.seed)
    verdict, seconds = experiment.judge(results), time.perf_counter() - started
    console.print(_table(results))
    count = len(results.distinct("seed"))
    console.print(Text(f"{count} seeds, {seconds:.1f} s; means with 95% confidence intervals over the seeds"))
    console.print(Text(f"verdict   {verdict.outcome}: {verdict.because}"))
    if options.out is not None:
        _write(console, Path(options.out), experiment, scale, results, verdict, seconds)


def _table(results: Any) -> Table:
    table = Table(show_edge=False)
    rows = results.table()
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    return table


def _write(
    console: Console, folder: Path, experiment: Any, scale: str, results: Any, verdict: Any, seconds: float
) -> None:
    from npllm.experiments import figure, results_file
    from npllm.utils.plots import save_figure

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{experiment.name}.json"
    results_file.write(path, results_file.as_content(experiment, scale, results, verdict, seconds))
    save_figure(figure.draw(experiment, results), path.with_suffix(".svg"))
    console.print(Text(f"Wrote {path} and {path.with_suffix('.svg').name}"), soft_wrap=True)

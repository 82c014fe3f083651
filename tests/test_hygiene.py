"""What npllm must not call: whatever executes code from a file, a shell, or a download without encryption."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {"pickle", "marshal", "shelve", "dill", "joblib", "yaml", "subprocess", "runpy", "code", "codeop", "pty"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {"np.load", "numpy.load", "np.loads", "os.system", "os.popen", "os.execv", "os.spawnv", "torch.load"}
ALLOWED = {("npllm/models/catalog.py", "subprocess")}  # pip downloads a model; nothing of it is installed or run


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def forbidden(path: Path) -> set[str]:
    """The forbidden names that a file imports or calls."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {node.module.split(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            found |= ({ast.unparse(node.func)} & (CALLS | ATTRIBUTES)) | _shell(node)
    return found


def _shell(call: ast.Call) -> set[str]:
    return {"shell=True" for word in call.keywords if word.arg == "shell"}


def test_npllm_calls_nothing_that_executes_code_from_a_file():
    found = {(str(p.relative_to(ROOT)), name) for p in sorted(ROOT.glob("npllm/**/*.py")) for name in forbidden(p)}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "eval('1')", "import numpy as np\nnp.load('x')", "f(shell=True)",
     "def f():\n    import subprocess", "import os\nos.system('ls')"],
)  # fmt: skip
def test_each_kind_is_found(source, tmp_path):
    (tmp_path / "module.py").write_text(source)
    assert forbidden(tmp_path / "module.py")


def test_every_address_in_the_source_is_of_https():
    strings = {
        (str(path.relative_to(ROOT)), node.value)
        for path in ROOT.glob("npllm/**/*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert any("https://" in text for _, text in strings)
    assert {(path, text) for path, text in strings if "http://" in text} == set()

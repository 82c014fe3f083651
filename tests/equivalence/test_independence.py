"""The PyTorch reference is written from the formulas: it takes no number and no formula from npllm."""

import ast
import dataclasses
import importlib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NOT_FORMULAS = {  # what torch_ref may import besides configurations, which are dataclasses
    "npllm.weights.gpt2": "the names of GPT-2's tensors in files",
}


def test_torch_ref_imports_only_configurations_from_npllm():
    for path in sorted((ROOT / "torch_ref").rglob("*.py")):
        if path.name == "train.py":
            continue  # a program that continues a run of npllm, not a reference
        for name in _imports_from_npllm(path):
            module, _, attribute = name.rpartition(".")
            item = getattr(importlib.import_module(module), attribute, None) if name not in NOT_FORMULAS else None
            allowed = name in NOT_FORMULAS or dataclasses.is_dataclass(item)
            assert allowed, f"{path.relative_to(ROOT)} imports {name}; the reference must not use what it checks"


def test_every_exception_is_used():
    imported = {name for path in (ROOT / "torch_ref").rglob("*.py") for name in _imports_from_npllm(path)}
    assert imported >= set(NOT_FORMULAS)


def _imports_from_npllm(path):
    """The qualified names that a file imports from npllm."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "npllm")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "npllm":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)

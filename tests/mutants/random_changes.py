"""Random changes of one token, to find what no test checks: `python -m tests.mutants --random N`.

A comparison, an arithmetic or a logical operator is replaced by its neighbour, a sign is dropped, a number or a truth
value is changed. Many changes have no effect that a test could see (a block size, a message), so a survivor is a
question and not yet a fault.
"""

import ast
import copy
import random
from dataclasses import dataclass

from tests.mutants.bug import ROOT, replace_nodes

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """In `file`, the expression `node` becomes `new`; `tests` should fail."""

    file: str
    node: ast.expr
    new: str
    tests: str

    def apply(self, source):
        """The source text of the file with the change."""
        return replace_nodes(source, self.node, self.node, self.new)

    def __str__(self):
        return f"{self.file}:{self.node.lineno}:{self.node.col_offset + 1}: {ast.unparse(self.node)}  →  {self.new}"


def random_changes(folder, number, seed):
    """`number` different changes in the files of npllm/`folder` (or in one file), or all there are."""
    rng = random.Random(seed)
    top = ROOT / "npllm" / folder
    paths = [top] if top.is_file() else [path for path in sorted(top.rglob("*.py")) if path.name != "__init__.py"]
    changes = [change for path in paths for change in _changes_of(path, rng)]
    return rng.sample(changes, min(number, len(changes)))


def _changes_of(path, rng):
    """One change for every expression of a file that can be changed."""
    file = path.relative_to(ROOT)
    folder = "/".join(("tests", *file.parts[1:-1]))
    mirror = f"{folder}/test_{path.stem}.py"
    tests = [mirror] * (ROOT / mirror).exists() + [folder, "tests/equivalence"]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _expressions(tree):
        new = _changed(node, rng)
        if new is not None:
            yield Change(file.as_posix(), node, new, " ".join(tests))


def _expressions(node):
    """Every expression below a node, without those of error messages, annotations and assertions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Raise, ast.JoinedStr, ast.arg, ast.Assert)):
            continue
        if isinstance(child, ast.expr):
            yield child
        yield from _expressions(child)


def _changed(node, rng):
    """The text of an expression with one token changed, or None if there is nothing to change."""
    node = copy.copy(node)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        node.ops = [OPERATORS[type(node.ops[0])](), *node.ops[1:]]
    elif isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS:
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp):
        node = node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        node.value += rng.choice([-1, 1])
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        node.value = node.value * rng.choice([0.5, 2.0]) or 1.0
    else:
        return None
    return ast.unparse(node)

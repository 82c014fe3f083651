"""An injected bug: how the data files describe it, and how it is found in the source.

A bug replaces one expression, or some consecutive statements, of one function. It is located in the syntax tree of the
file: the node of the function whose `ast.unparse` equals that of `old`. So formatting, comments and the names of
everything outside of that expression do not matter.
"""

import ast
import sys
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent
DATA = Path(__file__).parent

PARSING = threading.Lock()  # Python 3.11 counts the depth of ast.parse for all threads together: SystemError


@dataclass(frozen=True)
class Bug:
    """In `function` of `file`, `old` becomes `new`; the tests in `tests` (a file or a folder) must fail.

    `function` is a qualified name (`KVCache.append`); "" is the whole module. `old` must occur there once, or
    `occurrence` says which one it is, counted from 1.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    function: str = ""
    occurrence: int = 0

    def apply(self, source):
        """The source text of the file with the bug; raises ValueError if `old` cannot be located."""
        with PARSING:
            nodes = self._locate(ast.parse(source))
        return replace_nodes(source, nodes[0], nodes[-1], textwrap.dedent(self.new).strip())

    def _locate(self, tree):
        """The nodes to be replaced: one expression, or consecutive statements."""
        scope = _definition(tree, self.function)
        if scope is None:
            raise ValueError(f"{self}: {self.file} has no {self.function}")
        found = list(_matches(scope, textwrap.dedent(self.old).strip()))
        if len(found) != 1 and not 1 <= self.occurrence <= len(found):
            raise ValueError(
                f"{self}: `{self.old.strip()}` occurs {len(found)} times in {self.function or 'the module'} of "
                f"{self.file}, and `occurrence` is {self.occurrence or 'not given'}"
            )
        return found[max(self.occurrence, 1) - 1]

    def __str__(self):
        return self.name


def replace_nodes(source, first, last, new):
    """The source with everything from the node `first` to the node `last` replaced by the text `new`."""
    lines = source.encode().splitlines(keepends=True)  # ast counts columns in bytes of UTF-8
    before = b"".join(lines[: first.lineno - 1]) + lines[first.lineno - 1][: first.col_offset]
    after = lines[last.end_lineno - 1][last.end_col_offset :] + b"".join(lines[last.end_lineno :])
    if isinstance(first, ast.stmt):
        new = textwrap.indent(new, " " * first.col_offset).lstrip()
    else:
        new = f"({new})"  # precedence
    return before.decode() + new + after.decode()


def _definition(tree, qualified_name):
    """The function or class of a qualified name, or None."""
    for name in qualified_name.split(".") if qualified_name else []:
        definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        tree = next((node for node in ast.walk(tree) if isinstance(node, definitions) and node.name == name), None)
        if tree is None:
            return None
    return tree


def _matches(scope, old):
    """Every list of nodes within `scope` that `old` describes, in the order of the source."""
    wanted = ast.parse(old).body
    if len(wanted) == 1 and isinstance(wanted[0], ast.Expr) and not isinstance(scope, ast.Module):
        expression = ast.unparse(wanted[0].value)
        nodes = [node for node in ast.walk(scope) if isinstance(node, ast.expr) and ast.unparse(node) == expression]
    else:
        nodes = []
    if nodes:
        statement_of = {node.value: node for node in ast.walk(scope) if isinstance(node, ast.Expr)}
        in_order = sorted(nodes, key=lambda node: (node.lineno, node.col_offset))
        yield from ([statement_of.get(node, node)] for node in in_order)
        return
    statements = [ast.unparse(statement) for statement in wanted]
    for node in ast.walk(scope):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if not isinstance(block, list):
                continue
            texts = [ast.unparse(statement) for statement in block]
            for start in range(len(block) - len(statements) + 1):
                if texts[start : start + len(statements)] == statements:
                    yield block[start : start + len(statements)]


def load_bugs():
    """All bugs of the data files: a dictionary from the file's name (`attention`, `layers`, …) to its bugs."""
    return {
        path.stem: [Bug(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["bug"]]
        for path in sorted(DATA.glob("*.toml"))
    }

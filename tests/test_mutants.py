"""The data files of the injected bugs; `python -m tests.mutants` runs the bugs themselves."""

import ast
import builtins
from dataclasses import replace

import pytest

from tests.mutants.bug import ROOT, Bug, load_bugs
from tests.mutants.random_changes import random_changes
from tests.mutants.run import run_each

BUGS = [bug for bugs in load_bugs().values() for bug in bugs]


def names(tree):
    """Every name that occurs in a syntax tree."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "name", "attr"):
            if isinstance(getattr(node, field, None), str):
                yield getattr(node, field)


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_the_bug_can_be_located_and_changes_the_code(bug):
    source = (ROOT / bug.file).read_text(encoding="utf-8")
    before, after = ast.parse(source), ast.parse(bug.apply(source))
    assert ast.dump(after) != ast.dump(before)
    assert all((ROOT / path.split("::")[0]).exists() for path in bug.tests.split(" -k ")[0].split())


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_the_bug_is_no_mere_name_error(bug):
    source = (ROOT / bug.file).read_text(encoding="utf-8")
    known = {*names(ast.parse(source)), *(alias.split(".")[0] for alias in dir(builtins))}
    added = ast.parse(bug.apply(source))
    bound = {node.id for node in ast.walk(added) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    used = {node.id for node in ast.walk(added) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert used <= known | bound


def test_every_bug_has_a_name_of_its_own():
    assert len({bug.name for bug in BUGS}) == len(BUGS)


SOURCE = '''
"""A module."""
LIMIT = 4


def scale(x, factor=2):
    # a comment with café
    y = (x *
         factor)  # the product
    if y > LIMIT:
        y = y - 1
        y = y - 1
    return y


class Box:
    def scale(self, x):
        return "é", x * 2
'''


def bug(old, new, function="scale", **options):
    return Bug("a bug", "a.py", old, new, "tests", function, **options)


def test_an_expression_is_found_whatever_its_formatting():
    assert "y = ((x + factor))  # the product" in bug("x*factor", "x + factor").apply(SOURCE)


def test_an_expression_behind_other_letters_than_ascii_is_found():
    assert 'return "é", (x + 2)' in bug("x * 2", "x + 2", "Box.scale").apply(SOURCE)


def test_statements_are_replaced_and_keep_the_indentation():
    changed = bug("if y > LIMIT:\n    y = y - 1\n    y = y - 1", "if y:\n    y = 0").apply(SOURCE)
    assert "    if y:\n        y = 0\n    return y" in changed


def test_the_module_itself_can_be_changed():
    assert "LIMIT = 5\n" in bug("LIMIT = 4", "LIMIT = 5", "").apply(SOURCE)


def test_several_occurrences_need_a_number():
    with pytest.raises(ValueError, match="occurs 2 times in scale"):
        bug("y = y - 1", "pass").apply(SOURCE)
    assert "        y = y - 1\n        pass\n" in bug("y = y - 1", "pass", occurrence=2).apply(SOURCE)


def test_missing_code_is_refused():
    with pytest.raises(ValueError, match="occurs 0 times in scale of a.py"):
        bug("x / factor", "x").apply(SOURCE)
    with pytest.raises(ValueError, match="a.py has no Box.widen"):
        bug("x", "y", "Box.widen").apply(SOURCE)


def test_a_run_tells_a_bug_from_a_change_without_effect():
    same = Bug(
        "no change",
        "npllm/layers/softmax.py",
        "np.subtract(dy, dot, out=dx)",
        "(np.subtract(dy, dot, out=dx))",
        "tests/layers/test_softmax.py",
        "softmax_backward",
    )
    wrong = replace(same, name="a wrong gradient", new="dy")
    assert [caught for _, caught in run_each([same, wrong])] == [False, True]


def test_random_changes_compile_and_change_the_code():
    changes = random_changes("layers", 60, seed=0)
    assert len({str(change) for change in changes}) == 60
    for change in changes:
        source = (ROOT / change.file).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(change.apply(source))) != ast.dump(ast.parse(source))
    assert list(map(str, random_changes("layers", 60, seed=0))) == list(map(str, changes))

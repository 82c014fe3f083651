"""The sandbox of chat templates: what a template can read, and bounds of its time and of its texts.

A template comes with a model, from anywhere. jinja2's sandbox refuses attributes of Python's objects, files, modules,
and a range of more than 100,000 numbers. Loops in loops and texts that double in each step are valid programs for it.
So here every loop, call, operator and filter compares the time with a deadline, and the size of its result with what
is left of a budget of characters. Where an operation could produce a large result at once, its size is computed before.

Not bounded: the time of one operation on texts of that size, such as sorting them.
"""

import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.filters
import jinja2.parser
import jinja2.sandbox
from jinja2 import nodes
from jinja2.exceptions import SecurityError

MAX_CHARACTERS = 10_000_000  # of one text, and of the rendered conversation
MAX_TOTAL_CHARACTERS = 20 * MAX_CHARACTERS  # of all texts and lists that a template makes
MAX_SECONDS = 10.0
MAX_BITS = 10_000  # of an integer
FORMAT = re.compile(r"\d{6}|[*]|\{[^{}]*:[^{}]*\{")  # a width of 6 digits, or one that is an argument
# methods and filters with a size among their arguments, which the result can be as large as
SIZED = {"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "batch", "slice", "wordwrap", "tojson"}


class _Active(threading.local):
    """The budget of the template that this thread renders."""

    deadline = math.inf
    left = MAX_TOTAL_CHARACTERS


_active = _Active()


@contextmanager
def bounded() -> Iterator[None]:
    """In the `with` block, templates of this thread have MAX_SECONDS and MAX_TOTAL_CHARACTERS."""
    _active.deadline, _active.left = time.monotonic() + MAX_SECONDS, MAX_TOTAL_CHARACTERS
    try:
        yield
    finally:
        _active.deadline, _active.left = math.inf, MAX_TOTAL_CHARACTERS


def check_time() -> str:
    """Raise SecurityError after the deadline; return the empty text."""
    if time.monotonic() > _active.deadline:
        raise SecurityError(f"more than {MAX_SECONDS:g} seconds")
    return ""


def check_size(size: int) -> None:
    """Raise SecurityError for more characters, or items of a list, than MAX_CHARACTERS."""
    if size > MAX_CHARACTERS:
        raise SecurityError(f"a text or list of more than {MAX_CHARACTERS:,} characters")


def text_size(value: Any, limit: int = MAX_CHARACTERS) -> int:
    """At least how many characters the value has as a text; the count ends beyond the limit."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return text_size([*value.keys(), *value.values()], limit)
    if not isinstance(value, (list, tuple)):
        return 1
    size = len(value)
    for item in value:
        if size > limit:
            break
        size += text_size(item, limit - size)
    return size


def result(value: Any) -> Any:
    """The value, whose size is taken from the budget. Raises SecurityError where nothing is left."""
    check_time()
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > MAX_BITS:
        raise SecurityError(f"an integer of more than {MAX_BITS:,} bits")
    if isinstance(value, (str, list, tuple, dict)):
        check_size(len(value))
        _active.left -= len(value)
        if _active.left < 0:
            raise SecurityError(f"texts of more than {MAX_TOTAL_CHARACTERS:,} characters in all")
    return value


def join(values: Iterable[Any], separator: Any = "") -> str:
    """separator.join(values), with the size counted on the way."""
    parts, size = [], 0
    for value in values:
        check_size(text_size(value))
        parts.append(str(value))
        size += len(parts[-1]) + len(separator)
        check_size(size)
    return separator.join(parts)


class _CodeGenerator(jinja2.compiler.CodeGenerator):
    """jinja2's compiler; every step of a loop checks the time, and `a ~ b` is a call of `Sandbox.concatenated`."""

    def visit_For(self, node: nodes.For, frame: Any) -> None:
        """A loop."""
        check = nodes.Call(nodes.EnvironmentAttribute("check_time"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(check).set_lineno(node.lineno))
        super().visit_For(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:
        """a ~ b ~ c"""
        self.write("environment.concatenated((")
        for operand in node.nodes:
            self.visit(operand, frame)
            self.write(", ")
        self.write("))")


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """jinja2's sandbox with the bounds of this module."""

    code_generator_class = _CodeGenerator
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, finalize=self.finalized)
        self.check_time = check_time
        del self.globals["lipsum"]
        self.filters = {name: bounded_filter(name, function) for name, function in self.filters.items()}
        self.filters["join"] = _join_filter

    @staticmethod
    def finalized(value: Any) -> Any:
        """A value that becomes a part of the output."""
        check_size(text_size(value))
        return result(value)

    @staticmethod
    def concatenated(values: tuple[Any, ...]) -> str:
        """a ~ b ~ c"""
        check_size(text_size(values))
        return result("".join(map(str, values)))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """left + right and so on; raises SecurityError where the result would be very large."""
        sequences = [len(value) for value in (left, right) if isinstance(value, (str, list, tuple))]
        integers = [abs(value) for value in (left, right) if isinstance(value, int)]
        if operator == "**" and any(abs(value) > 1000 for value in (left, right) if isinstance(value, (int, float))):
            raise SecurityError("a power of numbers above 1000")
        if operator == "+":
            check_size(sum(sequences))
        if operator == "*" and sequences:
            check_size(sequences[0] * (integers[0] if integers else 1))
        if operator == "%" and isinstance(left, str):
            check_format(left, right)
        return result(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        """function(*arguments, **options), of a method, a macro or a function."""
        check_time()
        method = getattr(function, "__wrapped__", function)  # jinja2 replaces str.format by a function of its own
        name, owner = getattr(method, "__name__", ""), getattr(method, "__self__", None)
        if isinstance(owner, str):
            if name == "join" and len(arguments) == 1:
                return result(join(arguments[0], owner))
            check_operands(name, (owner, *arguments, *options.values()))
        return result(super().call(context, function, *arguments, **options))


def check_format(template: str, values: Any) -> None:
    """Raise SecurityError for a format with a width that could be very large."""
    if FORMAT.search(template):
        raise SecurityError("a format with a width of more than 5 digits, or with one that is an argument")
    fields = template.count("%") + template.count("{")
    check_size(len(template) + fields * text_size(values))


def check_operands(name: str, operands: tuple[Any, ...]) -> None:
    """Raise SecurityError where the result of this method or filter would be very large."""
    check_size(text_size(operands))
    sizes = [abs(value) for value in operands if isinstance(value, int)]
    if name in SIZED and sizes:
        check_size(max(sizes) * (max(1, text_size(operands[0])) if name in ("indent", "expandtabs", "tojson") else 1))
    if name == "replace" and len(operands) >= 3 and all(isinstance(value, str) for value in operands[:3]):
        text, old, new = operands[:3]
        check_size(len(text) + (text.count(old) if old else len(text) + 1) * len(new))
    if name in ("format", "format_map") and isinstance(operands[0], str):
        check_format(operands[0], operands[1:])
    if name == "sum" and any(not isinstance(value, (int, float, str)) for value in operands[2:]):
        raise SecurityError("a sum of lists")


def bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, with its operands and its result checked."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # it takes the environment or the context before them

    @wraps(function)
    def checked(*arguments: Any, **options: Any) -> Any:
        check_time()
        check_operands(name, (*arguments[first:], *options.values()))
        return result(function(*arguments, **options))

    return checked


@jinja2.pass_environment
def _join_filter(environment: Any, value: Any, d: Any = "", attribute: Any = None) -> str:
    """The filter join."""
    if attribute is not None:
        value = map(jinja2.filters.make_attrgetter(environment, attribute), value)
    return result(join(value, str(d)))


class GenerationTag(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %} encloses what the assistant wrote; here it renders its content."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> nodes.Node:
        """A node that renders the content."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Any) -> str:
        return caller()


class Dict:
    """The function dict of templates: a dict, and nothing else of the type."""

    def __call__(self, *arguments: Any, **entries: Any) -> dict:
        return dict(*arguments, **entries)

    def fromkeys(self, *arguments: Any) -> dict:
        """dict.fromkeys."""
        return dict.fromkeys(*arguments)


class Namespace(jinja2.utils.Namespace):
    """The function namespace of templates; no name may begin with an underscore."""

    def __init__(*arguments: Any, **entries: Any) -> None:
        self, *rest = arguments  # as jinja2 does it: an entry may be called self
        attributes = dict(*rest, **entries)
        for name in attributes:
            Namespace._check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        Namespace._check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace with the name {name!r}")

"""Structured damage: of bytes, and of the tree of a JSON value.

Each function draws from a NumPy Generator; the same Generator state gives the same damage.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

INTEGERS = (0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1,
            2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
MAGICS = (b"", b"\0", b"GGUF", b"FUGG", b"PK\3\4", b"\x89PNG\r\n\x1a\n", b"\x80\x04", b"{}", b"[]", b"\xef\xbb\xbf",
          b"\xff\xfe", b"\x1f\x8b", b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>")  # fmt: skip


class Raw(str):
    """JSON text that `dumps` inserts as it is."""


ODD_VALUES = (
    None, True, False, -1, 0, 1, 2, 1.5, -0.0, 1e-320, 1e30, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**9, 10**40,
    Raw("1e400"), Raw("-1e400"), Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1E5"), Raw("-0"),
    Raw("9" * 5000), "", "0", "8", "null", "true", "x" * 100_000, "\0", "\x1b[31m", "../../etc/passwd", "/etc/passwd",
    "\u2028", "\u0130", Raw('"\\ud800"'), Raw('"\\udfff\\ud800"'), [], [[]], [None], [0], [1, 2], ["a"], {}, {"": 0},
    {"a": {"a": {}}}, Raw("[" * 500 + "]" * 500), Raw("[" * 20_000 + "]" * 20_000),
    Raw('{"a":' * 20_000 + "1" + "}" * 20_000),
)  # fmt: skip


def mutate_bytes(rng: np.random.Generator, data: bytes, header: int | None = None) -> bytes:
    """One to three random changes. With `header`, most of them are within the first `header` bytes."""
    for _ in range(int(rng.choice((1, 1, 1, 2, 3)))):
        size = len(data) if header is None or rng.random() < 0.3 else min(header, len(data))
        data = pick(rng, BYTE_CHANGES)(rng, data, size)
    return data


def pick(rng: np.random.Generator, values: Sequence[Any]) -> Any:
    """One of the values, unchanged (`rng.choice` makes an array of them)."""
    return values[int(rng.integers(len(values)))]


def odd_value(rng: np.random.Generator) -> Any:
    """A copy of one of ODD_VALUES: later changes of the tree are written into its lists."""
    return _copy(pick(rng, ODD_VALUES))


def _position(rng, size: int) -> int:
    return int(rng.integers(size + 1))


def _chunk(rng, data: bytes, size: int) -> tuple[int, int]:
    start = _position(rng, size)
    return start, min(len(data), start + int(rng.choice((1, 2, 4, 8, 16, 100, 1000))))


def truncate(rng, data: bytes, size: int) -> bytes:
    """Without its end, from a random byte on."""
    return data[: _position(rng, size)]


def truncate_at_a_line(rng, data: bytes, size: int) -> bytes:
    """Without its end, from the beginning of a line on."""
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: _position(rng, len(lines))])


def extend(rng, data: bytes, size: int) -> bytes:
    """With random, zero or repeated bytes at its end."""
    number = int(rng.choice((1, 3, 8, 100, 5000)))
    return data + pick(rng, (rng.bytes(number), bytes(number), data[-number:]))


def flip_bits(rng, data: bytes, size: int) -> bytes:
    """With one to eight bits inverted."""
    changed = bytearray(data)
    for _ in range(int(rng.choice((1, 1, 1, 2, 8)))):
        if changed:
            changed[min(_position(rng, size), len(changed) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def delete_chunk(rng, data: bytes, size: int) -> bytes:
    """Without some bytes in the middle."""
    start, end = _chunk(rng, data, size)
    return data[:start] + data[end:]


def duplicate_chunk(rng, data: bytes, size: int) -> bytes:
    """With some bytes repeated, once or often."""
    start, end = _chunk(rng, data, size)
    return data[:end] + data[start:end] * int(rng.choice((1, 1, 2, 50))) + data[end:]


def insert_bytes(rng, data: bytes, size: int) -> bytes:
    """With random bytes inserted."""
    start = _position(rng, size)
    return data[:start] + rng.bytes(int(rng.choice((1, 2, 8, 64)))) + data[start:]


def move_chunk(rng, data: bytes, size: int) -> bytes:
    """With some bytes replaced by others of the same data."""
    start, end = _chunk(rng, data, size)
    source = _position(rng, size)
    return data[:start] + data[source : source + end - start] + data[end:]


def write_integer(rng, data: bytes, size: int) -> bytes:
    """With an integer at the edge of its type, or near the length, written over some bytes in little-endian."""
    value = pick(rng, (*INTEGERS, len(data), len(data) + 1, max(len(data) - 1, 0), 10**8))
    form, width = pick(rng, (("<B", 8), ("<H", 16), ("<I", 32), ("<I", 32), ("<Q", 64), ("<Q", 64), (">I", 32)))
    start, integer = _position(rng, size), struct.pack(form, value % 2**width)
    return data[:start] + integer + data[start + len(integer) :]


def write_magic(rng, data: bytes, size: int) -> bytes:
    """With the first bytes of a file of another kind."""
    magic = pick(rng, MAGICS)
    return magic + (data[len(magic) :] if rng.random() < 0.5 else data)


def zero_chunk(rng, data: bytes, size: int) -> bytes:
    """With zeros instead of some bytes, as a disk leaves them that was full or lost its power."""
    start, end = _chunk(rng, data, size)
    return data[:start] + bytes(end - start) + data[end:]


BYTE_CHANGES = (
    truncate, truncate, truncate_at_a_line, extend, flip_bits, flip_bits, flip_bits, delete_chunk, duplicate_chunk,
    insert_bytes, move_chunk, write_integer, write_integer, write_integer, write_magic, zero_chunk,
)  # fmt: skip


def mutate_json(rng: np.random.Generator, value: Any) -> bytes:
    """JSON text of the value with one to three random changes of its tree; now and then of the text itself."""
    tree = _copy(value)
    for _ in range(int(rng.choice((1, 1, 1, 1, 2, 3)))):
        tree = pick(rng, TREE_CHANGES)(rng, tree)
    text = dumps(tree)
    form = rng.random()
    if form < 0.08:
        return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"))
    if form < 0.11:
        return text.encode(pick(rng, ("utf-16", "utf-32", "utf-8-sig", "utf-16-le")), "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


def dumps(tree: Any) -> str:
    """JSON text of a tree that may have `Raw` texts, and objects as lists of pairs in a `Pairs`."""
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {dumps(value)}" for key, value in tree) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(dumps, tree)) + "]"
    if isinstance(tree, dict):
        return dumps(Pairs(tree.items()))
    return json.dumps(tree)


class Pairs(list):
    """An object as a list of (key, value): a key may be there twice."""


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs((key, _copy(each)) for key, each in value.items())
    return [_copy(each) for each in value] if isinstance(value, list) else value


def _container(rng, tree: Any) -> list | None:
    """A random list or object with content; those near the root are as likely as all those below."""
    found = None
    while isinstance(tree, list) and tree:
        found = tree
        if rng.random() < 0.4:
            break
        children = [_value(node) for node in tree if isinstance(_value(node), list) and _value(node)]
        if not children:
            break
        tree = pick(rng, children)
    return found


def _value(node: Any) -> Any:
    return node[1] if isinstance(node, tuple) else node


def _with_value(node: Any, value: Any) -> Any:
    return (node[0], value) if isinstance(node, tuple) else value


def replace_node(rng, tree: Any) -> Any:
    """A node, or rarely the root, becomes an odd value."""
    container = _container(rng, tree)
    if container is None or rng.random() < 0.02:
        return odd_value(rng)
    index = int(rng.integers(len(container)))
    container[index] = _with_value(container[index], odd_value(rng))
    return tree


def change_number(rng, tree: Any) -> Any:
    """A number in the tree changes a little, or its sign or type."""
    container = _container(rng, tree)
    numbers = [i for i, node in enumerate(container or ()) if type(_value(node)) in (int, float)]
    if not numbers:
        return replace_node(rng, tree)
    index = pick(rng, numbers)
    number = _value(container[index])
    new = pick(rng, (number + 1, number - 1, -number, number * 2, float(number), str(number), number + 0.5, [number]))
    container[index] = _with_value(container[index], new)
    return tree


def remove_node(rng, tree: Any) -> Any:
    """A list or object without one of its nodes."""
    container = _container(rng, tree)
    if container:
        del container[int(rng.integers(len(container)))]
    return tree


def repeat_node(rng, tree: Any) -> Any:
    """A node twice: for an object two values of one key, equal or not."""
    container = _container(rng, tree)
    if container:
        node = pick(rng, container)
        other = node if rng.random() < 0.5 else _with_value(node, odd_value(rng))
        container.insert(_position(rng, len(container)), other)
    return tree


def rename_key(rng, tree: Any) -> Any:
    """An object with another name for one of its keys."""
    container = _container(rng, tree)
    if not isinstance(container, Pairs):
        return remove_node(rng, tree)
    index = int(rng.integers(len(container)))
    key, value = container[index]
    names = (key + "x", key.upper(), key[:-1], "", " " + key, key + "\0", "x" * 100_000, "\ud800", container[0][0])
    container[index] = (pick(rng, names), value)
    return tree


def swap_siblings(rng, tree: Any) -> Any:
    """Two values of a list or object exchanged."""
    container = _container(rng, tree)
    if container and len(container) > 1:
        one, other = (int(index) for index in rng.choice(len(container), 2, replace=False))
        first, second = _value(container[one]), _value(container[other])
        container[one], container[other] = _with_value(container[one], second), _with_value(container[other], first)
    return tree


TREE_CHANGES = (
    replace_node, replace_node, replace_node, replace_node, change_number, change_number, remove_node, remove_node,
    repeat_node, rename_key, swap_siblings,
)  # fmt: skip

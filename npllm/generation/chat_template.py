"""Chat templates: the messages of a conversation as the text that a model was trained on.

    [{"role": "user", "content": "Hi"}] → [template] → "<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n"

A published model comes with its template, a program in the language Jinja. The template is rendered as transformers
does it: the same environment, the same functions and filters. It runs in a sandbox, which lets it read the messages and
produce text, and refuses access to attributes of Python's objects, to files and to modules. The sandbox does not bound
the time of a template; the size of a range and of the text are bounded.

transformers, utils/chat_template_utils.py.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.parser
import jinja2.sandbox
import numpy as np
from jinja2 import nodes

MAX_CHARACTERS = 50_000_000  # of a rendered conversation
REASONING = ("reasoning_content", "thinking", "reasoning")  # names of a message's reasoning, the standard one first


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    bos_token: str | None = None,
    eos_token: str | None = None,
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    **variables: Any,
) -> str:
    """The text of a conversation.

    template               the model's chat template
    messages               dicts with "role" and "content"; entries that are None are left out
    bos_token, eos_token   the model's special tokens, which many templates write; None: not defined
    add_generation_prompt  end with the beginning of the assistant's message
    tools, documents       lists of dicts, for templates that have them
    variables              further variables of the template, such as enable_thinking

    Raises TypeError for messages that are not dicts, and ValueError for a template that is not valid, that refuses the
    messages (`raise_exception`), or that attempts what the sandbox does not allow.
    """
    if not isinstance(template, str):
        raise TypeError(f"template is {template!r}; it must be a text")
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise TypeError(f"messages is {messages!r}; it must be a list of dicts")
    if not messages:
        raise ValueError("messages is empty; it must have at least one message")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise TypeError(f'messages[{number}] is {message!r}; it must be a dict with "role" and "content"')
    special = {"bos_token": bos_token, "eos_token": eos_token}
    context = {
        **{name: token for name, token in special.items() if token is not None},
        **variables,
        "messages": [_message(message) for message in messages],
        "tools": tools,
        "documents": documents,
        "add_generation_prompt": add_generation_prompt,
    }
    try:
        return _bounded(_compile(template).generate(plain_data(context)))
    except jinja2.exceptions.SecurityError as error:
        raise ValueError(f"the chat template attempts what its sandbox does not allow: {error}") from None
    except jinja2.exceptions.TemplateSyntaxError as error:
        raise ValueError(f"the chat template is not valid, line {error.lineno}: {error.message}") from None
    except RefusedMessages as error:
        raise ValueError(f"the chat template refuses the messages: {error}") from None
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"the chat template needs too much memory: {type(error).__name__}") from None
    except Exception as error:  # whatever a template raises, it is an error of the template
        raise ValueError(f"the chat template fails: {type(error).__name__}: {error}") from None


class RefusedMessages(jinja2.exceptions.TemplateError):
    """A template has called raise_exception."""


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


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """jinja2's sandbox; a product of a text and a number, and a power, are bounded, too."""

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """left * right or left ** right; raises SecurityError where the result would be very large."""
        sizes = [x if isinstance(x, int) else len(x) for x in (left, right) if isinstance(x, (int, str, list, tuple))]
        limit = MAX_CHARACTERS if operator == "*" else 1000
        is_number = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "**" and any(abs(size) > limit for size in sizes):
            raise jinja2.exceptions.SecurityError(f"a power of numbers above {limit}")
        if operator == "*" and not is_number and len(sizes) == 2 and sizes[0] * sizes[1] > limit:
            raise jinja2.exceptions.SecurityError(f"a text of {sizes[0] * sizes[1]:,} characters")
        return super().call_binop(context, operator, left, right)


class _Dict:
    """The function dict of templates: a dict, and nothing else of the type."""

    def __call__(self, *arguments: Any, **entries: Any) -> dict:
        return dict(*arguments, **entries)

    def fromkeys(self, *arguments: Any) -> dict:
        """dict.fromkeys."""
        return dict.fromkeys(*arguments)


class _Namespace(jinja2.utils.Namespace):
    """The function namespace of templates; no name may begin with an underscore."""

    def __init__(*arguments: Any, **entries: Any) -> None:
        self, *rest = arguments  # as jinja2 does it: an entry may be called self
        attributes = dict(*rest, **entries)
        for name in attributes:
            _Namespace._check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace with the name {name!r}")


@lru_cache(maxsize=16)
def _compile(template: str) -> jinja2.Template:
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict(), namespace=_Namespace
    )
    return environment.from_string(template)


def _tojson(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as it is; jinja2's own filter escapes the characters of HTML."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise RefusedMessages(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message without entries that are None; a reasoning under the names that templates read."""
    entries = {key: value for key, value in message.items() if value is not None}
    reasoning = next((entries[key] for key in REASONING if key in entries), None)
    return entries if reasoning is None else {"thinking": reasoning, **entries, "reasoning_content": reasoning}


def plain_data(value: Any) -> Any:
    """The value with dicts, lists, tuples, texts and numbers only; "<TYPE>" in place of any other object.

    Objects have methods that the sandbox does not know, some of which write files.
    """
    if value is None or isinstance(value, bool):
        return value
    for plain in (str, int, float):
        if isinstance(value, plain):
            return value if type(value) is plain else getattr(plain, f"__{plain.__name__}__")(value)
    if isinstance(value, np.generic):
        return plain_data(value.item())
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain_data, value)) if type(value) in (list, tuple) else list(map(plain_data, value))
    return f"<{type(value).__name__}>"


def _bounded(parts: Iterable[str]) -> str:
    """The parts, joined; raises SecurityError for more than 50 million characters."""
    texts, size = [], 0
    for part in parts:
        texts.append(part)
        size += len(part)
        if size > MAX_CHARACTERS:
            raise jinja2.exceptions.SecurityError(f"a text of more than {MAX_CHARACTERS:,} characters")
    return "".join(texts)

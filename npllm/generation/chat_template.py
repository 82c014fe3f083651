"""Chat templates: the messages of a conversation as the text that a model was trained on.

    [{"role": "user", "content": "Hi"}] → [template] → "<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n"

A published model comes with its template, a program in the language Jinja. The template is rendered as transformers
does it: the same environment, the same functions and filters. It runs in a sandbox, which lets it read the messages and
produce text, and refuses access to attributes of Python's objects, to files and to modules, and bounds the time and the
texts of the template, see template_sandbox.py.

transformers, utils/chat_template_utils.py.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from os import PathLike
from typing import Any

import jinja2
import jinja2.ext
import numpy as np

from npllm.generation.template_sandbox import (
    Dict,
    GenerationTag,
    Namespace,
    Sandbox,
    bounded,
    bounded_filter,
    check_size,
)
from npllm.utils.file_errors import FileError

MAX_TEMPLATE = 1_000_000  # characters
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
    path: str | PathLike | None = None,
    **variables: Any,
) -> str:
    """The text of a conversation.

    template               the model's chat template
    messages               dicts with "role" and "content"; entries that are None are left out
    bos_token, eos_token   the model's special tokens, which many templates write; None: not defined
    add_generation_prompt  end with the beginning of the assistant's message
    tools, documents       lists of dicts, for templates that have them
    path                   the file of the template, for messages
    variables              further variables of the template, such as enable_thinking

    Raises TypeError for messages that are not dicts, and ValueError (FileError with `path`) for a template that is not
    valid, that refuses the messages (`raise_exception`), or that attempts what the sandbox does not allow.
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
        if len(template) > MAX_TEMPLATE:
            raise jinja2.exceptions.SecurityError(
                f"{len(template):,} characters of its own, more than {MAX_TEMPLATE:,}"
            )
        data = plain_data(context)
        with bounded():
            return _joined(_compile(template).generate(data))
    except Exception as error:  # whatever a template raises, it is an error of the template
        problem = _problem(error)
    if path is not None:
        raise FileError(path, f"has a chat template that {problem}")
    raise ValueError(f"the chat template {problem}")


def _problem(error: Exception) -> str:
    """What is wrong with a template that raised this error, as the end of a sentence."""
    if isinstance(error, jinja2.exceptions.SecurityError):
        return f"attempts what its sandbox does not allow: {error}"
    if isinstance(error, jinja2.exceptions.TemplateSyntaxError):
        return f"is not valid, line {error.lineno}: {error.message}"
    if isinstance(error, RefusedMessages):
        return f"refuses the messages: {error}"
    if isinstance(error, (RecursionError, MemoryError)):
        return f"needs too much memory: {type(error).__name__}"
    return f"fails: {type(error).__name__}: {str(error)[:500]}"


class RefusedMessages(jinja2.exceptions.TemplateError):
    """A template has called raise_exception."""


@lru_cache(maxsize=16)
def _compile(template: str) -> jinja2.Template:
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = bounded_filter("tojson", _tojson)
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=_strftime_now, dict=Dict(), namespace=Namespace
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


def _joined(parts: Iterable[str]) -> str:
    """The parts, joined; raises SecurityError for more than MAX_CHARACTERS."""
    texts, size = [], 0
    for part in parts:
        texts.append(part)
        size += len(part)
        check_size(size)
    return "".join(texts)

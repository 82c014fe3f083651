"""A conversation with a small model: prompts, messages, the key-value cache, the context length."""

from pathlib import Path

import numpy as np
import pytest

from npllm.generation import Chat, complete, generate_text
from npllm.models import GPT, GPTConfig
from npllm.models.pretrained import Pretrained
from npllm.tokenizers import BPETokenizer

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role[0] }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|a|>{% endif %}"
)
TOKENIZER = BPETokenizer(
    {bytes([i]): i for i in range(256)}, special_tokens={"<|end|>": 256, "<|u|>": 257, "<|a|>": 258, "<|s|>": 259}
)


def pretrained(context_length=120, template=TEMPLATE):
    """A small model with a tokenizer, an end token and a template."""
    model = GPT(GPTConfig(262, context_length, 8, 2, 2), rng=np.random.default_rng(0), dtype="float64")
    for _, parameter in model.named_parameters():
        parameter.data *= 20
    return Pretrained(Path("small"), model, TOKENIZER, frozenset([256]), None, "<|end|>", template)


def ask(chat, question, max_new_tokens=10):
    """The text of an answer."""
    return "".join(token.text for token in chat.answer(question, max_new_tokens))


def test_an_answer_is_the_continuation_of_the_rendered_messages():
    small = pretrained()
    chat = Chat(small, system="S", temperature=0)
    first = ask(chat, "hello")
    prompt = [259, *b"S", 256, 257, *b"hello", 256, 258]
    assert chat.next_logits.num_computed == 1
    expected = "".join(generate_text(small.model, TOKENIZER, prompt, 10, temperature=0, stop_ids=[256]))
    assert first == expected
    assert chat.messages == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": first},
    ]


def test_the_second_answer_follows_from_all_messages_and_uses_the_cache():
    small = pretrained()
    ascii_only = dict.fromkeys(range(128, 262), -np.inf)
    chat = Chat(small, temperature=0, logit_bias=ascii_only)
    ask(chat, "a")
    prompt = chat.prompt_ids([*chat.messages, {"role": "user", "content": "b"}])
    expected = complete(small.model, prompt, 3, temperature=0, logit_bias=ascii_only)
    tokens = [token.id for token in chat.answer("b", 3) if token.id is not None]
    assert tokens == expected
    assert chat.num_processed == 6, "the last token of the answer, <|end|>, <|u|>, b, <|end|>, <|a|>"


def test_a_question_with_special_tokens_is_encoded_as_transformers_does():
    chat = Chat(pretrained())
    assert chat.prompt_ids([{"role": "user", "content": "a<|end|>b"}]).count(256) == 2


def test_an_answer_that_is_stopped_becomes_a_message():
    chat = Chat(pretrained(), temperature=0)
    answer = chat.answer("hello", 10)
    text = next(answer).text + next(answer).text
    answer.close()
    assert chat.messages[-1] == {"role": "assistant", "content": text}


def test_a_new_conversation_keeps_the_system_message():
    chat = Chat(pretrained(), system="S", temperature=0)
    ask(chat, "hello")
    chat.start()
    assert chat.messages == [{"role": "system", "content": "S"}]


def test_the_context_length():
    chat = Chat(pretrained(context_length=20), temperature=0, logit_bias={256: -np.inf})
    ids = [token.id for token in chat.answer("0123456789", 99) if token.id is not None]
    assert 1 + 10 + 1 + 1 + len(ids) == 20, "as many tokens as the context length has left"
    messages = list(chat.messages)
    with pytest.raises(ValueError, match="has .* tokens with this message; it must have fewer than 20"):
        chat.answer("and now?")
    assert chat.messages == messages
    chat.start()
    assert ask(chat, "short", 2) is not None


@pytest.mark.parametrize(
    ("template", "options", "question", "message"),
    [
        (None, {}, "a", "small has no chat template, so it is not a model for conversations; `npllm generate`"),
        ("{{ raise_exception('no system') }}", {}, "a", "the chat template refuses the messages: no system"),
        (TEMPLATE, {"top_p": 0}, "a", "top_p is 0"),
    ],
)
def test_errors(template, options, question, message):
    with pytest.raises(ValueError, match=message):
        Chat(pretrained(template=template), **options).answer(question)

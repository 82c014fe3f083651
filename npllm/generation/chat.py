"""Chat: a conversation with a model that was trained on one.

    messages → [chat template → tokenizer] → prompt → [generate] → answer, which becomes a message

Each prompt begins with the prompt and the answer before it, whose keys and values are still in the cache. So only the
new message is processed.
"""

from collections.abc import Iterator
from typing import Any

from npllm.core.checks import check_integer, check_text
from npllm.generation.chat_template import render_chat
from npllm.generation.next_logits import NextLogits
from npllm.generation.text import GeneratedToken, generate_tokens
from npllm.models.pretrained import Pretrained


class Chat:
    """A conversation with a published model.

    pretrained    what open_pretrained returns; it must have a chat template
    system        the system message, or None: many templates then write one of their own
    options       those of `generate`, such as temperature=0.2

    messages       dicts with "role" and "content": the system message, then questions and answers
    next_logits    holds the key-value cache
    num_processed  the tokens of the last prompt that were not in the cache
    num_left       the positions of the context length that are left after the last answer
    is_truncated   whether the last answer has reached the number of tokens allowed, without an end token

    Raises ValueError for a model without a chat template.
    """

    def __init__(self, pretrained: Pretrained, system: str | None = None, **options: Any) -> None:
        if pretrained.chat_template is None:
            raise ValueError(
                f"{pretrained.path} has no chat template, so it is not a model for conversations; "
                "`npllm generate` continues a text with it"
            )
        self.pretrained, self.template, self.options = pretrained, pretrained.chat_template, options
        self.system = system
        self.messages: list[dict[str, str]] = []
        self.next_logits = NextLogits(pretrained.model)
        self.num_processed, self.num_left, self.is_truncated = 0, pretrained.model.context_length, False
        self.start()

    def start(self) -> None:
        """Start a new conversation: the system message stays."""
        if self.system is not None:
            check_text("system", self.system)
        self.messages = [] if self.system is None else [{"role": "system", "content": self.system}]

    def answer(self, question: str, max_new_tokens: int = 512) -> Iterator[GeneratedToken]:
        """Ask a question, and yield each token of the answer, which ends with an end token of the model.

        At most `max_new_tokens` are generated, and no more than the context length has left. Question and answer become
        messages, also where the caller stops early. Raises ValueError if the conversation does not fit into the context
        length, and if the template refuses it; then the messages stay as they are.
        """
        check_text("question", question)
        check_integer("max_new_tokens", max_new_tokens, 1)
        messages = [*self.messages, {"role": "user", "content": question}]
        prompt = self.prompt_ids(messages)
        limit = self.pretrained.model.context_length
        if len(prompt) >= limit:
            raise ValueError(
                f"the conversation has {len(prompt)} tokens with this message; it must have fewer than {limit}, the "
                "context length of the model"
            )
        max_new_tokens, self.num_left = min(max_new_tokens, limit - len(prompt)), limit - len(prompt)
        options = {"stop_ids": self.pretrained.stop_ids, **self.options, "next_logits": self.next_logits}
        tokens = generate_tokens(self.pretrained.model, self.pretrained.tokenizer, prompt, max_new_tokens, **options)
        return self._recorded(tokens, messages, max_new_tokens, set(options["stop_ids"]))

    def prompt_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """The ids of the messages, and of the beginning of an answer. The template writes all special tokens."""
        text = render_chat(
            self.template,
            messages,
            bos_token=self.pretrained.bos_token,
            eos_token=self.pretrained.eos_token,
            path=self.pretrained.template_path,
        )
        return encode_with_special_tokens(self.pretrained.tokenizer, text)

    def _recorded(self, tokens, messages, max_new_tokens, stop_ids) -> Iterator[GeneratedToken]:
        """The same tokens; at the end, or when the caller stops, the messages are extended."""
        texts, ids = [], []
        try:
            for token in tokens:
                texts.append(token.text)
                if token.id is not None:
                    ids.append(token.id)
                    self.num_left -= 1
                if len(ids) == 1:
                    self.num_processed = self.next_logits.num_computed
                yield token
        finally:
            self.messages = [*messages, {"role": "assistant", "content": "".join(texts)}]
            self.is_truncated = len(ids) == max_new_tokens and ids[-1] not in stop_ids


def encode_with_special_tokens(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text in which the special tokens of the vocabulary are tokens."""
    return tokenizer.encode(text, allowed_special="all") if tokenizer.special_tokens else tokenizer.encode(text)

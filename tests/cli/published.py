"""A small model folder as a hub has it: config.json, model.safetensors, tokenizer.json, tokenizer_config.json."""

import json

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from npllm.models import GPT, GPTConfig

TEXT = "The capital of France is Paris. What is the capital of Italy? Rome, of course. " * 3
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer():
    """A byte-level tokenizer of the tokenizers library, with three special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([TEXT], trainer)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    return tokenizer


def make_folder(folder, template=TEMPLATE, num_padded=5, context_length=128):
    """Write the folder; its model has `num_padded` more rows than the tokenizer has tokens."""
    tokenizer = make_tokenizer()
    config = GPTConfig(tokenizer.get_vocab_size() + num_padded, context_length, 16, 2, 2)
    model = GPT(config, rng=np.random.default_rng(0))
    for _, parameter in model.named_parameters():
        parameter.data *= 15
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    content = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    if template is not None:
        content["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    return folder

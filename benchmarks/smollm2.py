"""SmolLM2-135M, a published model: a prompt, generation and a training step, beside transformers and llama.cpp.

    prefill          a prompt of 512 tokens, and the first new token
    generation       64 tokens after a prompt of 8, greedy, with a key-value cache
    training step    1 × 256 tokens: forward, backward, clipping, AdamW

The model is that of `npllm models fetch smollm2`. npllm and transformers hold its weights in float32, llama.cpp in the
4 bits of the file. Generation reads every weight once for a token, so its speed is limited by the memory bandwidth: the
contender “read the weights” is a matrix-vector product with as many numbers as the model has, once for each token, by
NumPy's BLAS. Its time relative to npllm's is the fraction of the memory bandwidth that npllm reaches.
"""

import importlib.util
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from benchmarks.limits import read_by_products
from benchmarks.measure import Job
from benchmarks.steps import optimizer_step, torch_optimizer_step
from npllm.generation import complete
from npllm.models import from_pretrained
from npllm.models.catalog import find_model
from npllm.tokenizers import load_tokenizer
from npllm.utils import corpora

NAME, READING, LLAMA_CPP = "smollm2", "read the weights", "llama.cpp"


def jobs(path=None, ids=None, prefill_length=512, prompt_length=8, new_tokens=64, step_length=256):
    """The three jobs; raises FileNotFoundError if the model has not been fetched and no `path` is given.

    `ids` are the ids of a text; by default the story's, by the model's tokenizer.
    """
    path = find_model(NAME) if path is None else path
    ids = load_tokenizer(path).encode(corpora.read("story"))[:prefill_length] if ids is None else ids[:prefill_length]
    model, theirs = contenders_from(path)
    others, absent = _llama_cpp(path, model.context_length)
    shape = f"SmolLM2, {model.num_parameters() / 1e6:.0f} million parameters"
    for name, prompt, number in (("prefill", ids, 1), ("generation", ids[:prompt_length], new_tokens)):
        contenders = {"transformers": transformers_generation(theirs, prompt, number)}
        contenders |= {name: run(prompt, number) for name, run in others.items()}
        if number > 1:
            contenders[READING] = reading(model.num_parameters(), number)
        yield Job(
            f"{NAME} {name}",
            f"{shape}, {len(prompt)} ids + {number}",
            lambda prompt=prompt, number=number: complete(model, prompt, number, temperature=0),
            contenders,
            agree=_agree,
            tokens=len(prompt) if number == 1 else number,
            absent=absent,
        )
    inputs, targets = np.array([ids[:step_length]]), np.array([ids[1 : step_length + 1]])
    yield Job(
        f"{NAME} training step",
        f"{shape}, 1 × {inputs.size}",
        optimizer_step(model, inputs, targets),
        {"transformers": torch_optimizer_step(theirs, lambda x: theirs(x).logits, inputs, targets)},
        tokens=inputs.size,
    )


def contenders_from(path):
    """npllm's model and transformers', with the same weights in float32."""
    model = from_pretrained(path)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return model, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def transformers_generation(model, prompt, new_tokens):
    """transformers' greedy generation; it does not stop at an end token."""

    def run():
        with torch.inference_mode():
            whole = model.generate(
                torch.tensor([prompt]), max_new_tokens=new_tokens, do_sample=False, pad_token_id=0, eos_token_id=None
            )
        return whole[0, len(prompt) :].tolist()

    return run


def _llama_cpp(path, context_length):
    """By name, a function of prompt and number of tokens that returns a contender; and the names of those absent."""
    if importlib.util.find_spec("llama_cpp") is None:
        return {}, (LLAMA_CPP,)
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=min(1024, context_length), n_threads=torch.get_num_threads(), verbose=False)

    def contender(prompt, new_tokens):
        def run():
            model.reset()
            steps = model.generate(prompt, temp=0.0, top_k=1)
            return (LLAMA_CPP, [next(steps) for _ in range(new_tokens)])

        return run

    return {LLAMA_CPP: contender}, ()


def reading(num_parameters, times):
    """The contender that reads so many numbers `times` times, and generates nothing."""
    read = read_by_products(num_parameters, times)
    return lambda: (READING, read())


def _agree(result, ours):
    """The ids are equal, except those of 4-bit arithmetic and of the contender that generates nothing."""
    if not isinstance(result, tuple):
        assert result == ours, "the ids differ"

"""The rows of `npllm verify --model`: one published model computed by npllm and by transformers, step by step.

    hidden states before every block → logits → loss → gradient of every parameter → greedy text → ids of the tokenizer

Both compute in float32 from the same file. The difference of hidden states and logits is relative to the largest number
of the same position, that of a gradient to the largest number of the same parameter: the rounding error of a sum
follows the size of its terms. Per position, because the hidden states of some positions are a thousand times as
large as those of others.
"""

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from npllm import functional as F
from npllm.generation import complete
from npllm.models import from_pretrained
from npllm.models.pretrained import open_pretrained
from npllm.utils.gguf_file import is_gguf

# The largest relative differences that are allowed. Rounding in float32 gives 7e-6, 3e-6 and 3e-4 in SmolLM2 with 30
# layers, where a hidden state of 23,000 is added to numbers of size 1.
STATES, LOSS, GRADIENTS = 1e-4, 2e-5, 2e-3
MAX_POSITIONS, NUM_GREEDY = 24, 12
PROMPT = "The capital of France is"
TEXTS = [
    PROMPT, " It was the best of times, it was the worst of times;\n\n\tit was the age of wisdom…",
    "naïve café — “Ünïcödé”",
    "def f(x):\n    return {x: [x, -x]}  # ok\n", "你好，世界！こんにちは 👋🏽 👨‍👩‍👧", "WE'LL we'll  I'd\r\n\r\n   x",
]  # fmt: skip
DIGITS = ["In 1984, 3.14159 and 1,000,000 = 10**6", "x   12 2024-11-25T09:07"]


@dataclass(frozen=True)
class Row:
    """One step: a difference, the number of the reference that it is relative to, and the tolerance of the quotient."""

    name: str
    difference: float
    scale: float
    tolerance: float
    detail: str = ""

    @property
    def relative(self):
        """The difference divided by the scale."""
        return self.difference / self.scale if self.scale else self.difference

    @property
    def ok(self):
        """Whether the difference is within tolerance; NaN is not."""
        return bool(self.relative <= self.tolerance)


def rows(path):
    """Compare the model in a folder or a GGUF file; yield a Row for each step as soon as it is computed."""
    path = Path(path)
    reference = open_reference(path)
    try:
        pretrained = open_pretrained(path)
        model, tokenizer = pretrained.model, pretrained.tokenizer
    except (OSError, ValueError) as error:  # the model is compared nevertheless, on random ids
        model, tokenizer, problem = from_pretrained(path), None, str(error)
    ids = _ids(tokenizer, model)
    yield from compare_states(model, reference, ids)
    yield _greedy(model, reference, ids, tokenizer)
    yield compare_gradients(model, reference, ids)
    if tokenizer is None:
        yield Row("ids of the tokenizer", np.inf, 0.0, 0.0, problem)
    else:
        yield _compare_ids(path, tokenizer)


def open_reference(path):
    """The model of transformers, in float32; raises ValueError if transformers cannot open it."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    options = {"dtype": torch.float32, "attn_implementation": "eager", "local_files_only": True}
    if is_gguf(path):
        path, options["gguf_file"] = path.parent, path.name
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no option of transformers removes
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(path, **options).eval()
        except Exception as error:  # of any class
            raise ValueError(f"transformers cannot open {path}: {error}") from error
    model.get_input_embeddings().padding_idx = None  # otherwise the row of the padding has no gradient
    return model


def compare_states(model, reference, ids):
    """Yield the rows of the hidden states before each block and after the last norm, of the logits and of the loss."""
    inputs, targets = ids[:, :-1], ids[:, 1:]
    states, logits = _hidden_states(model, inputs), model(inputs)
    with torch.no_grad():
        out = reference(torch.tensor(inputs), output_hidden_states=True)
    last = len(out.hidden_states) - 1
    if len(states) != last + 1:
        yield Row(
            "number of layers", abs(len(states) - last - 1), 1.0, 0.0, f"{len(states) - 1}, {last} in transformers"
        )
        return
    for index, (state, expected) in enumerate(zip(states, out.hidden_states)):
        name = "after the last norm" if index == last else f"after layer {index}" if index else "embedding"
        yield _row(name, state, expected.numpy(), STATES)
    yield _row("logits", logits, out.logits.numpy(), STATES)
    expected = torch.nn.functional.cross_entropy(out.logits[0], torch.tensor(targets[0])).numpy()
    loss = F.cross_entropy(logits, targets)
    yield _row("loss", loss, expected, LOSS, f"loss: {loss:.6f}, {expected:.6f} in transformers")


def compare_gradients(model, reference, ids):
    """The row of the parameter whose gradient differs most. The weights of the reference are lost."""
    inputs, targets = ids[:, :-1], ids[:, 1:]
    logits, cache = model.forward(inputs)
    _, cross_entropy = F.cross_entropy_forward(logits, targets)
    model.zero_grad()
    model.backward(F.cross_entropy_backward(1.0, cross_entropy), cache)
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    logits = reference(torch.tensor(inputs)).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten()).backward()
    worst, num = Row("gradients", 0.0, 1.0, GRADIENTS, "no parameter differs"), 0
    for name, expected in _gradients(reference).items():
        if name not in found:  # the second name of tied weights
            continue
        gradient = np.zeros_like(expected) if found[name] is None else found[name]  # of an expert that was not used
        num += 1
        row = _row(
            "gradients",
            gradient.ravel(),
            expected.ravel(),
            GRADIENTS,
            f"largest relative difference of {len(found)} gradients: {name}",
        )
        if not row.relative <= worst.relative:
            worst = row
    model.zero_grad()
    if num != len(found):
        return Row("gradients", np.inf, 0.0, 0.0, f"{num} of {len(found)} parameters are in transformers")
    return worst


def _hidden_states(model, ids):
    """The input of every block, and the output of the last norm."""
    states, blocks = [], model.layers if hasattr(model, "layers") else model.h
    for block in blocks:
        block.forward = _recording(block.forward, states)
    last = model.hidden_states(ids)
    for block in blocks:
        del block.forward  # the attribute of the instance; the method remains
    return [*states, last]


def _recording(forward, states):
    """The function `forward`, which also appends its first argument to `states`."""

    def recording(x, *args, **options):
        states.append(x)
        return forward(x, *args, **options)

    return recording


def _gradients(reference):
    """The gradients of transformers by npllm's names: saved as if they were the weights, and opened by npllm."""
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    for holder, name in ((reference.config, "quantization_config"), (reference, "hf_quantizer")):
        if hasattr(holder, name):
            delattr(holder, name)
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        return from_pretrained(folder).state_dict()


def _greedy(model, reference, ids, tokenizer):
    prompt = ids[0, : min(5, ids.shape[1])]
    if tokenizer is not None:
        prompt = np.array(tokenizer.encode(PROMPT, disallowed_special=()))
    number = min(NUM_GREEDY, model.config.context_length - len(prompt))
    options = {"max_new_tokens": number, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = reference.generate(torch.tensor(prompt[None]), **options)[0, len(prompt) :].tolist()
    found = complete(model, prompt, number, temperature=0.0)
    text = str(found)
    if tokenizer is not None:
        known = set(map(int, tokenizer.token_ids()))  # without the ids with which a vocabulary is padded
        text = repr(tokenizer.decode([token_id for token_id in [*prompt.tolist(), *found] if token_id in known]))
    different = sum(a != b for a, b in zip(found, expected))
    return Row("greedy text", different, len(expected), 0.0, f"greedy text: {text}")


def _compare_ids(path, tokenizer):
    """The ids of TEXTS and DIGITS. From a GGUF file transformers loses the rule that smollm's digits are apart."""
    options = {"gguf_file": path.name} if is_gguf(path) else {}
    folder = path.parent if options else path
    texts = TEXTS if options else TEXTS + DIGITS
    try:
        theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
        expected = [theirs.encode(text, add_special_tokens=False) for text in texts]
    except Exception as error:  # whatever transformers raises for a tokenizer that it cannot open
        return Row("ids of the tokenizer", 0.0, 1.0, 0.0, f"ids of the tokenizer: not compared, {error!r:.200}")
    found = [tokenizer.encode(text, disallowed_special=()) for text in texts]
    different = [text for text, a, b in zip(texts, found, expected) if a != b]
    number = sum(map(len, expected))
    detail = f"ids of the tokenizer: {number} of {len(texts)} texts" + f", other ones for {different[:1]}" * bool(
        different
    )
    return Row("ids of the tokenizer", len(different), len(texts), 0.0, detail)


def _ids(tokenizer, model):
    """(1, T): some text if there is a tokenizer, else random ids."""
    length = min(MAX_POSITIONS, model.config.context_length)
    if tokenizer is None:
        return np.random.default_rng(0).integers(0, model.config.vocab_size, (1, length))
    ids = [token_id for text in TEXTS for token_id in tokenizer.encode(text, disallowed_special=())]
    return np.array([ids[:length]])


def _row(name, array, reference, tolerance, detail=""):
    if np.shape(array) != reference.shape:
        return Row(name, np.inf, 0.0, tolerance, f"shape {np.shape(array)}; it must be {reference.shape}")
    differences = np.atleast_1d(np.abs(array - reference)).max(axis=-1).ravel()
    scales = np.atleast_1d(np.abs(reference)).max(axis=-1).ravel()
    worst = int(np.argmax(differences / np.maximum(scales, np.finfo(np.float32).tiny)))  # NaN counts as the largest
    return Row(name, float(differences[worst]), float(scales[worst]), tolerance, detail)

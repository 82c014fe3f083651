"""The suite, tested: well-known bugs are put into npllm one at a time, and each must turn it red.

    python -m tests.mutants                every bug against the tests that should catch it (as CI does)
    python -m tests.mutants --whole-suite  every bug against all tests
    python -m tests.mutants NAME …         these bugs alone

All of them have been found in real projects. A bug is a replacement of text in one file; it is put into a copy of the
project, and pytest runs there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ["npllm", "torch_ref", "tests", "benchmarks", "data", "setup.cfg", "README.md", ".ci"]


@dataclass(frozen=True)
class Mutant:
    """A bug: in `file`, `old` (which stands there once) becomes `new`; `tests` are those that should see it."""

    name: str
    file: str
    old: str
    new: str
    tests: str


ATTENTION = "npllm/attention/scaled_dot_product.py"
MASKS = "npllm/attention/masks.py"
GROUPED = "npllm/attention/variants/grouped_query.py"
PAST = "npllm/attention/kv_cache.py"
LINEAR_ATTENTION = "npllm/attention/variants/linear_attention.py"
DELTA_RULE = "npllm/attention/variants/delta_net.py"
DIFFERENTIAL = "npllm/attention/variants/differential.py"
LATENT = "npllm/attention/variants/mla.py"
MUTANTS = [
    Mutant(
        "heads split by reshape, without the transpose",
        "npllm/attention/multi_head.py",
        "return x.reshape(*batch, length, num_heads, channels // num_heads).swapaxes(-3, -2)",
        "return x.reshape(*batch, num_heads, length, channels // num_heads)",
        "tests/attention",
    ),
    Mutant(
        "heads joined by reshape, without the transpose",
        "npllm/attention/multi_head.py",
        "return x.swapaxes(-3, -2).reshape(*batch, length, num_heads * width)",
        "return x.reshape(*batch, length, num_heads * width)",
        "tests/attention",
    ),
    Mutant(
        "causal mask inverted",
        MASKS,
        "seen = (key >= 0) & (key <= query)",
        "seen = (key >= 0) & ~(key <= query)",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "causal mask off by one, into the future",
        MASKS,
        "seen = (key >= 0) & (key <= query)",
        "seen = (key >= 0) & (key <= query + 1)",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "causal mask off by one, hiding the present",
        MASKS,
        "seen = (key >= 0) & (key <= query)",
        "seen = (key >= 0) & (key < query)",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "causal mask left out",
        ATTENTION,
        "seen = causal_mask(*scores_shape[-2:], offset, window, sinks)",
        "pass",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "softmax over the queries instead of the keys",
        ATTENTION,
        "weights, softmax_cache = softmax_forward(scores)",
        "weights, softmax_cache = softmax_forward(scores, axis=-2)",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "softmax always over the last axis",
        "npllm/layers/softmax.py",
        "    total = exponentials.sum(axis=axis, keepdims=True)\n    return exponentials / np.where",
        "    total = exponentials.sum(axis=-1, keepdims=True)\n    return exponentials / np.where",
        "tests/layers/test_softmax.py",
    ),
    Mutant(
        "global instead of row maximum",
        "npllm/layers/softmax.py",
        "maximum = x.max(axis=axis, keepdims=True, initial=-np.inf)",
        "maximum = x.max(keepdims=True, initial=-np.inf)",
        "tests/layers/test_softmax.py",
    ),
    Mutant(
        "softmax gradient without the sum",
        "npllm/layers/softmax.py",
        "return cache.y * (dy - dot)",
        "return cache.y * dy",
        "tests/layers/test_softmax.py",
    ),
    Mutant(
        "softmax gradient 42 times too large",
        "npllm/layers/softmax.py",
        "return cache.y * (dy - dot)",
        "return 42 * cache.y * (dy - dot)",
        "tests/layers/test_softmax.py",
    ),
    Mutant(
        "dQ = 0",
        ATTENTION,
        "dq = split_groups(dproduct @ k, groups)",
        "dq = split_groups(dproduct @ k, groups) * 0",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "the scale left out of the backward",
        ATTENTION,
        "dproduct = stack_groups(dscores * cache.scale, groups)",
        "dproduct = stack_groups(dscores, groups)",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "the scale left out altogether",
        ATTENTION,
        "scale = 1.0 / math.sqrt(max(q.shape[-1], 1)) if scale is None else float(scale)",
        "scale = 1.0 if scale is None else float(scale)",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "a float64 scale that widens float32",
        ATTENTION,
        "scale = 1.0 / math.sqrt(max(q.shape[-1], 1)) if scale is None else float(scale)",
        "scale = 1.0 / np.sqrt(max(q.shape[-1], 1)) if scale is None else float(scale)",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "key and value heads tiled instead of repeated",
        ATTENTION,
        "    return x.reshape(*batch, heads // groups, groups * length, width)",
        "    x = x.reshape(*batch, groups, heads // groups, length, width).swapaxes(-4, -3)\n"
        "    return x.reshape(*batch, heads // groups, groups * length, width)",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "dropout mask left out of the backward",
        ATTENTION,
        "        dweights = dweights * cache.dropout_mask  # averaged = weights * dropout_mask\n",
        "        pass\n",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "dropout scaled by 1/p",
        "npllm/layers/dropout.py",
        "kept.astype(dtype) * (1.0 / (1.0 - p))",
        "kept.astype(dtype) * (1.0 / p)",
        "tests/layers/test_dropout.py",
    ),
    Mutant(
        "embedding gradient assigned instead of added",
        "npllm/layers/embedding.py",
        "np.add.at(dweight, cache.ids.reshape(-1), dy.reshape(-1, channels))",
        "dweight[cache.ids.reshape(-1)] = dy.reshape(-1, channels)",
        "tests/layers/test_embedding.py",
    ),
    Mutant(
        "the padding row learns",
        "npllm/layers/embedding.py",
        "        dweight[cache.padding_idx] = 0\n",
        "        pass\n",
        "tests/layers/test_embedding.py",
    ),
    Mutant(
        "position gradient not summed over the batch",
        "npllm/layers/positions.py",
        "dy.sum(axis=tuple(range(dy.ndim - 2)))",
        "dy.reshape(-1, *dy.shape[-2:])[0]",
        "tests/layers",
    ),
    Mutant(
        "variance unbiased",
        "npllm/layers/normalization.py",
        "variance = (centered * centered).mean(axis=-1, keepdims=True)",
        "variance = (centered * centered).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)",
        "tests/layers/test_normalization.py",
    ),
    Mutant(
        "GELU constant 0.0044715",
        "npllm/layers/activations.py",
        "CUBIC = 0.044715",
        "CUBIC = 0.0044715",
        "tests/layers/test_activations.py",
    ),
    Mutant(
        "erf in place of tanh where GPT-2's weights want tanh",
        "npllm/layers/feed_forward.py",
        'active, gelu = gelu_forward(hidden, approximate="tanh")',
        "active, gelu = gelu_forward(hidden)",
        "tests/layers",
    ),
    Mutant(
        "targets not shifted",
        "npllm/batching/windows.py",
        "return windows[:, :-1], windows[:, 1:]",
        "return windows[:, :-1], windows[:, :-1]",
        "tests/batching",
    ),
    Mutant(
        "windows ids[i:1 + max_length]",
        "npllm/batching/windows.py",
        "    return windows[:, :-1], windows[:, 1:]",
        "    return [ids[i : 1 + max_length][:-1] for i in range(0, len(ids) - max_length, stride)], windows[:, 1:]",
        "tests/batching",
    ),
    Mutant(
        "byte pairs merged from the left instead of by rank",
        "npllm/tokenizers/byte_pair/merge.py",
        "        i = found.index(lowest)\n",
        "        i = next(i for i, rank in enumerate(found) if rank < len(ranks))\n",
        "tests/tokenizers/test_bpe.py",
    ),
    Mutant(
        "among equal counts the last pair wins",
        "npllm/tokenizers/vectorized/incremental_training.py",
        "return -self.counts[pair], self._first_place(pair), pair",
        "return -self.counts[pair], -self._first_place(pair), pair",
        "tests/tokenizers/vectorized/test_incremental_training.py",
    ),
    Mutant(
        "the pair between two merges side by side counted twice",
        "npllm/tokenizers/vectorized/incremental_training.py",
        "        has_after[:-1] &= ~joined[1:]\n",
        "",
        "tests/tokenizers/vectorized/test_incremental_training.py",
    ),
    Mutant(
        "overlapping positions merged at each of them",
        "npllm/tokenizers/vectorized/incremental_training.py",
        "            places = _not_overlapping(places, following[places])",
        "            positions = positions[:]",
        "tests/tokenizers/vectorized/test_incremental_training.py",
    ),
    Mutant(
        "pieces of a block in the order of their lengths",
        "npllm/tokenizers/vectorized/pretoken_counts.py",
        "self.order.append(known + np.argsort(first))",
        "self.order.append(known + np.arange(len(first)))",
        "tests/tokenizers/vectorized/test_pretoken_counts.py",
    ),
    Mutant(
        "a heap that keeps pairs which are broken",
        "npllm/tokenizers/byte_pair/merge.py",
        "previous[stop], noted[middle] = start, None",
        "previous[stop] = start",
        "tests/tokenizers/test_bpe.py",
    ),
    Mutant(
        "pairs merged early that something may take",
        "npllm/tokenizers/vectorized/parallel_merge.py",
        "    return _lowest(np.concatenate(neighbours), np.concatenate(tokens), np.concatenate(ranks))",
        "    return Table()",
        "tests/tokenizers/vectorized/test_parallel_merge.py",
    ),
    Mutant(
        "a letter in a row merged with both its neighbours",
        "npllm/tokenizers/vectorized/parallel_merge.py",
        "    return np.repeat(first, number) + 2 * offset",
        "    return np.repeat(first, number) + offset",
        "tests/tokenizers/vectorized/test_parallel_merge.py",
    ),
    Mutant(
        "blanks at the end of a document cut as if a word followed",
        "npllm/tokenizers/vectorized/pretokenize_gpt2.py",
        "(kinds[:-1] == BLANKS) & (kinds[1:] < BLANKS)",
        "(kinds[:-1] == BLANKS) & (kinds[1:] != BLANKS)",
        "tests/tokenizers/vectorized/test_pretokenize.py",
    ),
    Mutant(
        "a capital begins a word whatever came before",
        "npllm/tokenizers/vectorized/pretokenize_gpt4.py",
        "anew = (kinds[one] == LOWER) & (kinds[next_one] == UPPER)",
        "anew = kinds[next_one] == UPPER",
        "tests/tokenizers/vectorized/test_pretokenize.py",
    ),
    Mutant(
        "pieces that differ in their eighth byte taken for one",
        "npllm/tokenizers/vectorized/pretoken_cache.py",
        "np.clip(lengths - 8 * word, 0, 8)",
        "np.clip(lengths - 8 * word, 0, 7)",
        "tests/tokenizers/vectorized/test_encode.py",
    ),
    Mutant(
        "a block ends within a contraction",
        "npllm/tokenizers/vectorized/safe_split_points.py",
        "return sure & (codes != APOSTROPHE)",
        "return sure",
        "tests/tokenizers/vectorized/test_encode.py",
    ),
    Mutant(
        "a block of a file ends within a special token",
        "npllm/tokenizers/text_blocks.py",
        "while begins := [begin for token in special_tokens if (begin := _stands_across(token, text, place)) >= 0]:",
        "while begins := []:",
        "tests/tokenizers/test_text_blocks.py",
    ),
    Mutant(
        "an encoding goes on with another text",
        "npllm/batching/file_encoding.py",
        "if left or sha256.hexdigest() != file.sha256 or",
        "if left or",
        "tests/batching/test_file_encoding.py",
    ),
    Mutant(
        "the journal speaks of ids that are not on the disk yet",
        "npllm/batching/partial_token_file.py",
        "        self._to_the_disk()\n        self.read, self.sha256 = read, sha256",
        "        self.read, self.sha256 = read, sha256",
        "tests/batching/test_file_encoding.py",
    ),
    Mutant(
        "Ctrl-C leaves pieces without their ids",
        "npllm/tokenizers/vectorized/encode.py",
        "                self.memory.forget()\n                raise\n",
        "                raise\n",
        "tests/tokenizers/vectorized/test_encode.py",
    ),
    Mutant(
        "a token with 0xFF taken for another",
        "npllm/tokenizers/vectorized/pretoken_cache.py",
        'if b"\\xff" not in token]',
        "]",
        "tests/tokenizers/vectorized/test_encode.py",
    ),
    Mutant(
        "half a character is printed",
        "npllm/tokenizers/streaming.py",
        "return self._decoder.decode(self.tokenizer.decode_bytes(ids))",
        "return self.tokenizer.decode(ids)",
        "tests/tokenizers/test_counting_streaming_offsets.py",
    ),
    Mutant(
        "special tokens stripped as characters",
        "npllm/tokenizers/words.py",
        'text = " ".join(self.id_to_token[index] for index in ids)',
        'text = " ".join(self.id_to_token[index] for index in ids).strip("<|unk|>")',
        "tests/tokenizers/test_words.py",
    ),
    Mutant(
        "Python's idea of a blank",
        "npllm/tokenizers/byte_pair/unicode_tables.py",
        "\n9-D 20 ",
        "\n9-D 1C-20 ",
        "tests/tokenizers/byte_pair/test_pretokenize.py",
    ),
    Mutant(
        "AdamW's decay put into the gradient",
        "npllm/training/optimizers.py",
        "        parameter.data *= 1.0 - learning_rate * float(self.weight_decay)\n",
        "",
        "tests/training",
    ),
    Mutant(
        "a gradient's square averaged with the wrong beta",
        "npllm/training/optimizers.py",
        "square *= beta2",
        "square *= beta1",
        "tests/training",
    ),
    Mutant(
        "bias correction left out of Adam",
        "npllm/training/optimizers.py",
        "average_correction = 1.0 - beta1**steps",
        "average_correction = 1.0",
        "tests/training",
    ),
    Mutant(
        "label smoothing without the factor 1 − ε",
        "npllm/layers/cross_entropy.py",
        "losses = (1.0 - label_smoothing) * losses + label_smoothing",
        "losses = losses + label_smoothing",
        "tests/layers/test_cross_entropy.py",
    ),
    Mutant(
        "the mean of the loss over ignored positions, too",
        "npllm/layers/cross_entropy.py",
        'divisor = own.sum() if reduction == "mean" else 1.0',
        'divisor = own.size if reduction == "mean" else 1.0',
        "tests/layers/test_cross_entropy.py",
    ),
    Mutant(
        "the gradient of a shortcut left out",
        "npllm/models/transformer_block.py",
        "dx = dy + self.ln_2.backward(",
        "dx = self.ln_2.backward(",
        "tests/models",
    ),
    Mutant(
        "gradients overwritten instead of added up",
        "npllm/core/module.py",
        "            self.grad += gradient\n",
        "            self.grad = gradient\n",
        "tests/core/test_module.py",
    ),
    Mutant(
        "weights tied by copy",
        "npllm/models/gpt.py",
        "self.lm_head.weight = self.wte.weight  #",
        "self.lm_head.weight = type(self.wte.weight)(self.wte.weight.data.copy())  #",
        "tests/models/test_gpt.py",
    ),
    Mutant(
        "the position's gradient left out of a GPT",
        "npllm/models/gpt.py",
        "        self.wpe.backward(dx, cache.wpe)\n",
        "",
        "tests/models/test_gpt.py",
    ),
    Mutant(
        "blocks run backward in the order of forward",
        "npllm/models/gpt.py",
        "zip(reversed(self.h), reversed(cache.h))",
        "zip(self.h, cache.h)",
        "tests/models/test_gpt.py",
    ),
    Mutant(
        "gradient norm clipped per tensor",
        "npllm/training/clipping.py",
        "gradient *= limit / (norm + 1e-6)",
        "gradient *= min(1.0, limit / (float(np.linalg.norm(gradient)) + 1e-6))",
        "tests/training/test_clipping.py",
    ),
    Mutant(
        "parts of a batch weighted alike, however many targets they have",
        "npllm/training/trainer.py",
        "share = float((part_targets != -100).sum() / counted)",
        "share = 1.0 / self.settings.grad_accum_steps",
        "tests/training/test_trainer.py",
    ),
    Mutant(
        "biases and norms decay, too",
        "npllm/training/optimizers.py",
        "return parameter.data.ndim >= 2",
        "return True",
        "tests/training",
    ),
    Mutant(
        "a resumed training begins the epoch again",
        "npllm/batching/infinite_batches.py",
        '        self._done = state["batches_done"]\n',
        "",
        "tests/batching/test_infinite_batches.py",
    ),
    Mutant(
        "a resumed training draws other dropout",
        "npllm/training/trainer.py",
        '        self.dropout_rng.bit_generator.state = numbers["dropout_generator"]\n',
        "",
        "tests/training/test_trainer.py",
    ),
    Mutant(
        "Adam's averages forgotten on resuming",
        "npllm/training/trainer.py",
        '        self.optimizer.load_state_dict(optimizer, numbers["optimizer_steps"])\n',
        "",
        "tests/training/test_trainer.py",
    ),
    Mutant(
        "positions begin at 0 again when the cache is used",
        "npllm/models/gpt.py",
        "return kv_cache.positions(length)",
        "return np.arange(length)",
        "tests/generation",
    ),
    Mutant(
        "new tokens see the future in the cache's mask",
        "npllm/attention/causal_self_attention.py",
        "seen = position_mask(positions, key_positions)",
        "seen = position_mask(positions + 1, key_positions)",
        "tests/generation",
    ),
    Mutant(
        "filling of shorter prompts is looked at by a single new token",
        "npllm/attention/causal_self_attention.py",
        "if positions.shape == (1,):",
        "if positions.shape[-1] == 1:",
        "tests/generation",
    ),
    Mutant(
        "top-p stops before p is reached",
        "npllm/generation/sampling.py",
        "order[before < p]",
        "order[(before == 0) | (before + probabilities <= p)]",
        "tests/generation/test_sampling.py",
    ),
    Mutant(
        "GPT-2's matrices loaded without turning them around",
        "npllm/weights/gpt2.py",
        "state[name] = array.T if name.endswith(TRANSPOSED) and array.ndim == 2 else array",
        "state[name] = array.T if name.endswith(TRANSPOSED) and array.shape[0] != array.shape[1] else array",
        "tests/weights/test_gpt2.py",
    ),
    Mutant(
        "window one too long",
        MASKS,
        "seen &= (query - key < window) | (key < sinks)",
        "seen &= (query - key <= window) | (key < sinks)",
        "tests/attention/test_masks.py",
    ),
    Mutant(
        "sinks dropped",
        MASKS,
        "seen &= (query - key < window) | (key < sinks)",
        "seen &= query - key < window",
        "tests/attention/test_masks.py",
    ),
    Mutant(
        "offset of cached keys left out",
        MASKS,
        "position_mask(np.arange(offset, offset + num_queries), np.arange(num_keys), window, sinks)",
        "position_mask(np.arange(num_queries), np.arange(num_keys), window, sinks)",
        "tests/attention/test_masks.py",
    ),
    Mutant(
        "filling is seen",
        MASKS,
        "seen = (key >= 0) & (key <= query)",
        "seen = key <= query",
        "tests/attention/variants/test_grouped_query.py",
    ),
    Mutant(
        "packed document_ids see each other",
        MASKS,
        "return (number[..., :, None] == number[..., None, :]) & causal_mask(length, length)",
        "return (number[..., :, None] >= number[..., None, :]) & causal_mask(length, length)",
        "tests/attention/test_masks.py",
    ),
    Mutant(
        "positions go on from one document to the next",
        MASKS,
        "return place - np.maximum.accumulate(np.where(begins, place, 0), axis=-1)",
        "return place + 0 * begins",
        "tests/attention/test_masks.py",
    ),
    Mutant(
        "bias added after the softmax",
        ATTENTION,
        "    weights, softmax_cache = softmax_forward(scores)\n",
        "    weights, softmax_cache = softmax_forward(scores if bias is None else scores - bias)\n"
        "    weights = _add(weights, bias)\n",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "soft cap after the bias",
        ATTENTION,
        "    scores = _add(scores, bias)\n",
        "    scores = softcap * np.tanh(_add(scores, bias) / softcap) if softcap else _add(scores, bias)\n",
        "tests/attention/test_scaled_dot_product.py",
    ),
    Mutant(
        "rotary turns the wrong half",
        "npllm/attention/variants/rope.py",
        "return slice(0, number), slice(number, 2 * number)",
        "return slice(number, 2 * number), slice(0, number)",
        "tests/attention/variants/test_rope.py",
    ),
    Mutant(
        "rotary turns forward again in the backward",
        "npllm/attention/variants/rope.py",
        "return _turn(dy, cache.cos, -cache.sin, cache.layout)",
        "return _turn(dy, cache.cos, cache.sin, cache.layout)",
        "tests/attention/variants/test_rope.py",
    ),
    Mutant(
        "rotary on the queries alone",
        "npllm/attention/variants/rope.py",
        "k, k_cache = rotary_forward(k,",
        "_, k_cache = rotary_forward(k,",
        "tests/attention/variants/test_grouped_query.py",
    ),
    Mutant(
        "cached keys turned for place 0",
        GROUPED,
        "        positions = kv_cache.positions(as_sequence(x).shape[-2])\n",
        "        positions = np.arange(as_sequence(x).shape[-2])\n",
        "tests/attention/variants/test_grouped_query.py",
    ),
    Mutant(
        "cache written at the wrong position",
        PAST,
        "array[..., self.length : end, :] = x",
        "array[..., : num_new, :] = x",
        "tests/attention/test_kv_cache.py",
    ),
    Mutant(
        "cache loses what it had when it grows",
        PAST,
        "    wider[..., :used, :] = array[..., :used, :]\n",
        "    wider[...] = 0\n",
        "tests/attention/test_kv_cache.py",
    ),
    Mutant(
        "window forgets one key too many",
        PAST,
        "            self.positions(1), positions, self.window, self.sinks",
        "            self.positions(1) + 1, positions, self.window, self.sinks",
        "tests/attention/test_kv_cache.py",
    ),
    Mutant(
        "gradient of the gate left out",
        "npllm/attention/variants/hooks.py",
        "return dcontext * cache.gate, self.gate_proj.backward(dlogits, cache.gate_proj)",
        "return dcontext * cache.gate, 0 * self.gate_proj.backward(dlogits, cache.gate_proj)",
        "tests/attention/variants/test_grouped_query.py",
    ),
    Mutant(
        "relative vectors of the values left out of the backward",
        "npllm/attention/variants/shaw.py",
        "daveraged = dy @ v.mT + np.take_along_axis(dy @ value_table.T, cache.buckets, axis=-1)",
        "daveraged = dy @ v.mT",
        "tests/attention/variants/test_relative_bias.py",
    ),
    Mutant(
        "T5's buckets mirrored",
        "npllm/attention/variants/relative_bias.py",
        "distance = np.abs(distance) if not causal else np.maximum(distance, 0)",
        "distance = np.abs(distance) if not causal else np.maximum(-distance, 0)",
        "tests/attention/variants/test_relative_bias.py",
    ),
    Mutant(
        "cross-attention forgets the context's share in the gradient of the keys",
        "npllm/attention/cross.py",
        "dcontext = self.v_proj.backward(dv, cache.v_proj) + self.k_proj.backward(dk, cache.k_proj)",
        "dcontext = self.v_proj.backward(dv, cache.v_proj)",
        "tests/attention/test_cross.py",
    ),
    Mutant(
        "GRU's gates swapped",
        "npllm/before_transformers/recurrent_cells.py",
        "(a_r, a_z, a_n), (u_r, u_z, u_n) = np.split",
        "(a_z, a_r, a_n), (u_z, u_r, u_n) = np.split",
        "tests/before_transformers/test_recurrent_cells.py",
    ),
    Mutant(
        "GRU's update gate the other way round",
        "npllm/before_transformers/recurrent_cells.py",
        "return (1.0 - z) * n + z * h,",
        "return z * n + (1.0 - z) * h,",
        "tests/before_transformers/test_recurrent_cells.py",
    ),
    Mutant(
        "LSTM's forget gate left out of the backward",
        "npllm/before_transformers/recurrent_cells.py",
        "return da, da.copy(), dc * f",
        "return da, da.copy(), dc",
        "tests/before_transformers/test_recurrent_cells.py",
    ),
    Mutant(
        "gradient of LSTM's cell cut between steps",
        "npllm/before_transformers/recurrent_cells.py",
        "dc = dc + dh * o * (1.0 - shown * shown)",
        "dc = dh * o * (1.0 - shown * shown)",
        "tests/before_transformers/test_recurrent_cells.py",
    ),
    Mutant(
        "gradient through time truncated to one step",
        "npllm/before_transformers/recurrent.py",
        "dstate = (dstate[0] + dstates[..., t, :], *dstate[1:])",
        "dstate = (dstates[..., t, :], *dstate[1:])",
        "tests/before_transformers/test_recurrent.py",
    ),
    Mutant(
        "every step starts from the first state",
        "npllm/before_transformers/recurrent.py",
        "linear(state[0], weight_hh, bias_hh), state)",
        "linear(before[0], weight_hh, bias_hh), state)",
        "tests/before_transformers/test_recurrent.py",
    ),
    Mutant(
        "a state leaks into the next call",
        "npllm/before_transformers/recurrent.py",
        "        before, states, steps = [], [], []\n",
        "        before, states, steps = [], [], []\n"
        '        kept, self.kept = getattr(self, "kept", []), states\n'
        "        state = (kept[-1], *state[1:]) if kept and kept[-1].shape == state[0].shape else state\n",
        "tests/before_transformers/test_recurrent.py",
    ),
    Mutant(
        "filling moves the state",
        "npllm/before_transformers/recurrent.py",
        "state = new if mask is None else _choose(mask[..., t], new, state)",
        "state = new",
        "tests/before_transformers/test_recurrent.py",
    ),
    Mutant(
        "gradient does not pass around filled-up steps",
        "npllm/before_transformers/recurrent.py",
        "dold = _choose(cache.mask[..., t], nothing, dstate)",
        "dold = nothing",
        "tests/before_transformers/test_recurrent.py",
    ),
    Mutant(
        "filling is aligned with",
        "npllm/before_transformers/alignment.py",
        "scores = np.where(mask[..., None, :], scores, -np.inf)",
        "scores = np.where(mask[..., None, :], scores, 0)",
        "tests/before_transformers/test_luong.py",
    ),
    Mutant(
        "alignment by softmax over the queries",
        "npllm/before_transformers/alignment.py",
        "weights, softmax = softmax_forward(scores)",
        "weights, softmax = softmax_forward(scores, axis=-2)",
        "tests/before_transformers/test_alignment.py",
    ),
    Mutant(
        "derivative of tanh without the square",
        "npllm/before_transformers/additive.py",
        "v * (1.0 - hidden * hidden)",
        "v * (1.0 - hidden)",
        "tests/before_transformers/test_alignment.py",
    ),
    Mutant(
        "a decoder's keys learn from the first step alone",
        "npllm/before_transformers/seq2seq.py",
        "dkeys, dstates = dkeys + dkey, dstates + dvalue",
        "dkeys, dstates = dkey, dstates + dvalue",
        "tests/before_transformers/test_seq2seq.py",
    ),
    Mutant(
        "a decoder's query has no gradient",
        "npllm/before_transformers/seq2seq.py",
        "dstate = (dstate[0] + dquery[..., 0, :], *dstate[1:])",
        "dstate = (dstate[0], *dstate[1:])",
        "tests/before_transformers/test_seq2seq.py",
    ),
    Mutant(
        "a decoder's states learn as values and not as keys",
        "npllm/before_transformers/seq2seq.py",
        "return dx, dkeys + dvalues, *dstate",
        "return dx, dvalues, *dstate",
        "tests/before_transformers/test_seq2seq.py",
    ),
    Mutant(
        "a decoder forgets its state while it writes",
        "npllm/before_transformers/seq2seq.py",
        "features, *state = self.decoder(",
        "hidden_states, *_ = self.decoder(",
        "tests/before_transformers/test_seq2seq.py",
    ),
    Mutant(
        "negative samples pull instead of push",
        "npllm/before_transformers/negative_sampling.py",
        "dscores = (sigmoid(cache.scores) - (cache.signs > 0))",
        "dscores = (sigmoid(cache.signs * cache.scores) - 1.0)",
        "tests/before_transformers/test_negative_sampling.py",
    ),
    Mutant(
        "a word drawn twice learns once",
        "npllm/before_transformers/negative_sampling.py",
        "np.add.at(dweight, ids.reshape(-1), dvectors.reshape(-1, x.shape[-1]))",
        "dweight[ids.reshape(-1)] += dvectors.reshape(-1, x.shape[-1])",
        "tests/before_transformers/test_negative_sampling.py",
    ),
    Mutant(
        "negative samples drawn by plain frequency",
        "npllm/before_transformers/skipgram.py",
        "np.where(counts > 0, counts, 1.0) ** power *",
        "np.where(counts > 0, counts, 1.0) *",
        "tests/before_transformers/test_skipgram.py",
    ),
    Mutant(
        "every word of the bag gets the whole gradient",
        "npllm/before_transformers/word2vec.py",
        "dx[..., None, :] / shape[-2], shape)",
        "dx[..., None, :], shape)",
        "tests/before_transformers/test_word2vec.py",
    ),
    Mutant(
        "the slope of elu taken for that of relu",
        LINEAR_ATTENTION,
        "* np.minimum(cache.y, 1)",
        "* (cache.y > 1)",
        "tests/attention/variants/test_linear_attention.py",
    ),
    Mutant(
        "linear attention without its normaliser",
        LINEAR_ATTENTION,
        "    y = sums[..., :-1] * inverse\n",
        "    y, inverse = sums[..., :-1].copy(), np.ones_like(divisor)\n",
        "tests/attention/variants/test_linear_attention.py",
    ),
    Mutant(
        "no gradient through the normaliser of linear attention",
        LINEAR_ATTENTION,
        "ddivisor = -(dy * cache.y).sum(axis=-1, keepdims=True) * cache.inverse",
        "ddivisor = np.zeros_like(cache.inverse)",
        "tests/attention/variants/test_linear_attention.py",
    ),
    Mutant(
        "a position does not see itself in recurrent linear attention",
        LINEAR_ATTENTION,
        "sums[..., t, :] = row_times(q, t, running)",
        "sums[..., t, :] = row_times(q, t, running - outer(k, values, t))",
        "tests/attention/variants/test_linear_attention.py",
    ),
    Mutant(
        "the state not reset between document_ids",
        LINEAR_ATTENTION,
        "return (~begins).astype(dtype)",
        "return np.ones(begins.shape, dtype)",
        "tests/attention/variants/test_linear_attention.py",
    ),
    Mutant(
        "the state not reset between document_ids, in the backward alone",
        LINEAR_ATTENTION,
        "        drunning = carried[..., t, None, None] * drunning\n",
        "",
        "tests/attention/variants/test_linear_attention.py",
    ),
    Mutant(
        "the state that was handed in is dropped with document_ids",
        LINEAR_ATTENTION,
        "begins[..., :1] = False",
        "begins[..., :0] = False",
        "tests/attention/variants/test_linear_attention.py",
    ),
    Mutant(
        "filling goes into the state",
        "npllm/attention/kv_cache.py",
        "return keys if self.left_padding is None else",
        "return keys if True else",
        "tests/attention/variants/test_delta_net_layer.py",
    ),
    Mutant(
        "length taken for direction: the part along y left in the gradient",
        "npllm/layers/normalization.py",
        "return (dy - cache.y * along) * cache.inverse_length",
        "return dy * cache.inverse_length",
        "tests/layers/test_normalization.py",
    ),
    Mutant(
        "the delta rule adds the value, whatever the state answers",
        DELTA_RULE,
        "wrong[..., t, :] = v[..., t, :] - row_times(k, t, running)",
        "wrong[..., t, :] = v[..., t, :]",
        "tests/attention/variants/test_delta_net.py",
    ),
    Mutant(
        "beta missing in the backward of the delta rule",
        DELTA_RULE,
        "dv[..., t, :] = beta[..., t, None] * dwritten",
        "dv[..., t, :] = dwritten",
        "tests/attention/variants/test_delta_net.py",
    ),
    Mutant(
        "beta missing in the backward of the chunked delta rule",
        DELTA_RULE,
        "dv = beta * dright",
        "dv = dright",
        "tests/attention/variants/test_delta_net.py",
    ),
    Mutant(
        "in a chunk a position corrects itself",
        DELTA_RULE,
        "overlaps = k @ k.mT * np.tril(passes.inside, -1)",
        "overlaps = k @ k.mT * np.tril(passes.inside)",
        "tests/attention/variants/test_delta_net.py",
    ),
    Mutant(
        "in a chunk a position corrects what comes after the next",
        DELTA_RULE,
        "overlaps = k @ k.mT * np.tril(passes.inside, -1)",
        "overlaps = k @ k.mT * np.tril(passes.inside, -2)",
        "tests/attention/variants/test_delta_net.py",
    ),
    Mutant(
        "every chunk reads the first state",
        DELTA_RULE,
        "states.append(running)",
        "states.append(first)",
        "tests/attention/variants/test_delta_net.py",
    ),
    Mutant(
        "the state decays from chunk to chunk",
        DELTA_RULE,
        "running = passes.through[..., n, :, :] * running + added",
        "running = passes.through[..., n, :, :] * (0.999 * running) + added",
        "tests/attention/variants/test_delta_net.py",
    ),
    Mutant(
        "the last position of a chunk is not written into the state",
        DELTA_RULE,
        "added = (k[..., n, :, :] * passes.out[..., n, :, :]).mT @ written[..., n, :, :]",
        "added = (k[..., n, :-1, :] * passes.out[..., n, :-1, :]).mT @ written[..., n, :-1, :]",
        "tests/attention/variants/test_delta_net.py",
    ),
    Mutant(
        "a document in the middle of a chunk reads the state before it",
        DELTA_RULE,
        "into=(number == 0).astype(carried.dtype)",
        "into=np.ones_like(number)",
        "tests/attention/variants/test_delta_net.py",
    ),
    Mutant(
        "the signs in λ exchanged",
        DIFFERENTIAL,
        "factor=first - second + self.lambda_init",
        "factor=second - first + self.lambda_init",
        "tests/attention/variants/test_differential.py",
    ),
    Mutant(
        "the second map added instead of subtracted",
        DIFFERENTIAL,
        "difference = contexts[..., 0, :, :] - factor.factor",
        "difference = contexts[..., 0, :, :] + factor.factor",
        "tests/attention/variants/test_differential.py",
    ),
    Mutant(
        "the gradient of λ with the wrong sign",
        DIFFERENTIAL,
        "self._factor_backward(-(ddifference * cache.second).sum(), cache.factor)",
        "self._factor_backward((ddifference * cache.second).sum(), cache.factor)",
        "tests/attention/variants/test_differential.py",
    ),
    Mutant(
        "1 − λ_init left out where the kv_cache is used",
        DIFFERENTIAL,
        "self.norm(difference) * (1.0 - self.lambda_init)",
        "self.norm(difference)",
        "tests/attention/variants/test_differential.py",
    ),
    Mutant(
        "the latent remembered before its norm",
        LATENT,
        "        (latent, k_rotary), _ = self._compress(x, positions)\n",
        "        (_, k_rotary), _ = self._compress(x, positions)\n"
        "        latent = self.kv_a_proj_with_mqa(x)[..., : self.kv_lora_rank]\n",
        "tests/attention/variants/test_mla.py",
    ),
    Mutant(
        "the wrong part of the query turned",
        LATENT,
        "q, q_rotary = np.split(split_heads(q, self.num_heads), [self.head_dim], axis=-1)",
        "q_rotary, q = np.split(split_heads(q, self.num_heads), [2 * len(self.frequencies)], axis=-1)",
        "tests/attention/variants/test_mla.py",
    ),
    Mutant(
        "the scale of the absorbed form taken from the width of the latent",
        LATENT,
        "scale = 1.0 / math.sqrt(self.head_dim + q_rotary.shape[-1])",
        "scale = 1.0 / math.sqrt(q.shape[-1])",
        "tests/attention/variants/test_mla.py",
    ),
    Mutant(
        "the shared rotary key learns from one head alone",
        LATENT,
        "dk_rotary.sum(axis=-3, keepdims=True)",
        "dk_rotary[..., :1, :, :]",
        "tests/attention/variants/test_mla.py",
    ),
    Mutant(
        "rotary positions begin at 0 in every piece of a text",
        LATENT,
        "remembered, key_positions = kv_cache.extend(np.concatenate([latent[..., None, :, :], k_rotary], axis=-1))",
        "k_rotary = self._compress(x, np.arange(x.shape[-2]))[0][1]\n"
        "        remembered, key_positions = kv_cache.extend("
        "np.concatenate([latent[..., None, :, :], k_rotary], axis=-1))",
        "tests/attention/variants/test_mla.py",
    ),
    Mutant(
        "weights of the experts not normalized",
        "npllm/layers/mixture_of_experts.py",
        "weights = weights / total if self.normalize else weights",
        "weights = weights * 1.0",
        "tests/layers/test_mixture_of_experts.py",
    ),
    Mutant(
        "experts chosen by the smallest probability",
        "npllm/layers/mixture_of_experts.py",
        "np.argsort(-probabilities, axis=-1",
        "np.argsort(probabilities, axis=-1",
        "tests/layers/test_mixture_of_experts.py",
    ),
    Mutant(
        "positions of a decoder begin at 0 again behind its kv_cache",
        "npllm/models/decoder.py",
        "            positions = kv_cache.positions(length)\n",
        "            positions = np.arange(length)\n",
        "tests/models/test_decoder.py",
    ),
    Mutant(
        "the base of a Llama's rotary positions is not read",
        "npllm/weights/llama.py",
        'float(given.pop("rope_theta", config.get("rope_theta", 10000.0)))',
        '10000.0 + 0.0 * float(given.pop("rope_theta", 1.0))',
        "tests/weights/test_llama.py",
    ),
]


def apply(mutant, folder):
    """Put the bug into the copy in `folder`; raises ValueError unless its text stands there exactly once."""
    path = Path(folder) / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: its text stands {text.count(mutant.old)} times in {mutant.file}, not once")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def is_caught(mutant, whole_suite=False):
    """Whether tests fail in a copy of the project with the bug; raises RuntimeError if they cannot even run."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            source, target = ROOT / name, Path(folder) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "results"))
            else:
                shutil.copy(source, target)
        apply(mutant, folder)
        selected = ["tests", "--ignore=tests/test_mutants.py"] if whole_suite else [mutant.tests]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--hypothesis-profile=mutants",
            *selected,
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.name}: pytest could not run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def main():
    """Run the bugs named, or all, and return 1 if one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a bug's name (default: all bugs)")
    parser.add_argument("--whole-suite", action="store_true", help="run all tests, not those that should catch the bug")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.names or any(name in m.name for name in options.names)]
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = pool.map(lambda mutant: is_caught(mutant, options.whole_suite), chosen)
        for mutant, caught in zip(chosen, verdicts):
            survivors += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'}  {mutant.name}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} bugs caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

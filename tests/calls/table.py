"""A valid call of every public function, constructor and method of attention, before_transformers, generation, …"""

import numpy as np

from npllm import functional as F
from npllm.attention import (
    GQA,
    ALiBi,
    BlockSparseMask,
    CausalAttention,
    CrossAttention,
    DeltaNet,
    DifferentialAttention,
    DynamicNTKScaling,
    GroupedQueryAttention,
    KVCache,
    LinearAttention,
    LinearScaling,
    Llama3Scaling,
    LongRoPEScaling,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    MultiHeadLatentAttention,
    NTKScaling,
    QKNorm,
    RoPE,
    SelfAttentionV1,
    SelfAttentionV2,
    ShawAttention,
    SimplifiedSelfAttention,
    SlidingWindow,
    SlidingWindowKVCache,
    StridedMask,
    T5Bias,
    YaRNScaling,
    causal,
    masks,
    scaled_dot_product,
    simplified,
)
from npllm.attention.causal_self_attention import CausalSelfAttention
from npllm.attention.kv_cache import ModelKVCache, RecurrentState
from npllm.attention.softcap import softcap
from npllm.attention.variants import relative_bias, rope, rope_frequencies
from npllm.attention.variants.delta_net import delta_rule
from npllm.attention.variants.delta_rule_chunked import delta_rule_chunked
from npllm.attention.variants.linear_attention import elu_plus_one, linear_attention, linear_attention_recurrent
from npllm.attention.variants.linear_attention_chunked import linear_attention_chunked
from npllm.attention.variants.shaw import relative_attention
from npllm.before_transformers import (
    CBOW,
    GRU,
    LSTM,
    RNN,
    AdditiveAttention,
    ConcatAttention,
    DotAttention,
    GeneralAttention,
    GRUCell,
    LSTMCell,
    NegativeSampler,
    RNNCell,
    Seq2Seq,
    SkipGram,
    cbow_windows,
    skip_gram_pairs,
    subsample,
)
from npllm.before_transformers.additive import additive_scores
from npllm.before_transformers.alignment import weighted_average
from npllm.before_transformers.negative_sampling import negative_sampling
from npllm.before_transformers.recurrent_cells import gru_step, lstm_step, rnn_step
from npllm.core.module import Parameter
from npllm.generation import autoregressive, filters, penalties, text
from npllm.generation.next_logits import NextLogits, context_start
from npllm.generation.sampling import Sampling, sample
from npllm.generation.stop_strings import StopStrings
from npllm.inspect import cost, layers
from npllm.inspect.trace import trace
from npllm.layers.linear_cross_entropy import linear_cross_entropy
from npllm.models.gpt import GPT, GPTConfig
from npllm.tokenizers import BPETokenizer
from npllm.training.clipping import clip_grad_norm, grad_norm
from npllm.training.optimizers import SGD, AdamW
from npllm.training.schedules import warmup_cosine
from npllm.training.step import accumulated_training_step

rng = np.random.default_rng


def floats(*shape):
    """Random numbers of float32."""
    return rng(0).standard_normal(shape).astype(np.float32)


def ids(high, *shape):
    """Random ids."""
    return rng(0).integers(0, high, shape)


def small_gpt(vocab_size=11):
    """A GPT of one block."""
    return GPT(GPTConfig(vocab_size, 8, 4, 1, 2), rng=rng(0))


def parameters():
    """One parameter with a gradient."""
    parameter = Parameter(floats(2, 3))
    parameter.grad = floats(2, 3)
    return {"w": parameter}


TOKENIZER = BPETokenizer({bytes([i]): i for i in range(256)})
QKV = {"q": floats(2, 3, 5, 4), "k": floats(2, 3, 5, 4), "v": floats(2, 3, 5, 6)}
SCORES = np.zeros((5, 5), np.float32)
POSITIONS = {"query_positions": np.arange(3), "key_positions": np.arange(5)}
CONTEXT = {"d_in": 6, "d_out": 4, "context_length": 8, "dropout": 0.1}
MODEL = {"d_model": 8, "context_length": 8, "dropout": 0.1, "num_heads": 2}
LATENT = {"kv_lora_rank": 3, "head_dim": 4, "qk_rope_head_dim": 2}
STATE = {"d_model": 8, "context_length": 8, "num_heads": 2}
ROTARY = {"rotary_dim": 8, "theta": 10000.0}
OPTIONS = {"rng": rng(0), "dtype": "float32", "init": True}
GPT_CONFIG = GPTConfig(11, 8, 4, 1, 2)
WEIGHTS = np.full((2, 6, 6), 1 / 6, np.float32)
LOGITS = floats(11)
PARAMETERS = {
    SimplifiedSelfAttention: {},
    SelfAttentionV1: {"d_in": 6, "d_out": 4},
    SelfAttentionV2: {"d_in": 6, "d_out": 4},
    CausalAttention: CONTEXT,
    MultiHeadAttentionWrapper: CONTEXT | {"num_heads": 2},
    MultiHeadAttention: CONTEXT | {"num_heads": 2},
    CausalSelfAttention: MODEL,
    CrossAttention: {"d_model": 8, "num_heads": 2, "d_context": 6, "dropout": 0.1},
    GroupedQueryAttention: MODEL,
    MultiHeadLatentAttention: MODEL | LATENT,
    DifferentialAttention: MODEL,
    ShawAttention: MODEL,
    LinearAttention: STATE,
    DeltaNet: STATE,
    AdditiveAttention: {"query_size": 3, "key_size": 4, "hidden_size": 5},
    DotAttention: {},
    GeneralAttention: {"query_size": 3, "key_size": 4},
    ConcatAttention: {"query_size": 3, "key_size": 4},
    RNN: {"input_size": 3, "hidden_size": 4},
    GRU: {"input_size": 3, "hidden_size": 4},
    LSTM: {"input_size": 3, "hidden_size": 4},
    RNNCell: {"input_size": 3, "hidden_size": 4},
    GRUCell: {"input_size": 3, "hidden_size": 4},
    LSTMCell: {"input_size": 3, "hidden_size": 4},
    Seq2Seq: {"source_vocab_size": 7, "target_vocab_size": 9, "embedding_dim": 3, "hidden_size": 4},
    SkipGram: {"vocab_size": 9, "d_model": 4},
    CBOW: {"vocab_size": 9, "d_model": 4},
}
FUNCTIONS = {  # function: its arguments
    masks.distances: POSITIONS,
    masks.causal_mask: {"num_queries": 3, "num_keys": 5},
    masks.position_mask: POSITIONS,
    masks.padding_mask: {"lengths": np.array([0, 0]), "num_keys": 4},
    masks.document_mask: {"document_ids": np.array([0, 0, 1])},
    masks.document_positions: {"document_ids": np.array([0, 0, 1])},
    masks.document_starts: {"document_ids": np.array([0, 0, 1])},
    masks.strided_mask: POSITIONS | {"stride": 2},
    masks.block_mask: POSITIONS | {"block": 2, "layout": np.eye(3, dtype=bool)},
    scaled_dot_product.attention: QKV,
    F.scaled_dot_product_attention: QKV,
    linear_cross_entropy: {"x": floats(2, 3, 4), "weight": floats(7, 4), "targets": ids(7, 2, 3)},
    softcap: {"scores": SCORES, "cap": 5.0},
    simplified.attention_scores_of_query: {"query": floats(4), "inputs": floats(3, 4)},
    simplified.attention_scores_by_loops: {"inputs": floats(3, 4)},
    simplified.attention_scores: {"inputs": floats(3, 4)},
    simplified.context_of_query: {"weights": floats(3), "inputs": floats(3, 4)},
    simplified.context_vectors: {"weights": floats(3, 3), "inputs": floats(3, 4)},
    causal.causal_weights_by_renormalizing: {"scores": SCORES},
    causal.causal_weights_by_prefix: {"scores": SCORES},
    causal.causal_weights_by_infinity: {"scores": SCORES},
    rope.rotary: {"x": floats(2, 5, 6), "positions": np.arange(5), "frequencies": np.ones(3)},
    rope.halves_from_pairs: {"head_dim": 6},
    rope_frequencies.rotary_frequencies: ROTARY,
    rope_frequencies.interpolated_frequencies: ROTARY | {"factor": 2.0},
    rope_frequencies.ntk_aware_frequencies: ROTARY | {"factor": 2.0},
    rope_frequencies.dynamic_ntk_frequencies: ROTARY | {"factor": 2.0, "original_length": 16, "num_positions": 20},
    rope_frequencies.yarn_frequencies: ROTARY | {"factor": 2.0, "original_length": 16},
    rope_frequencies.yarn_amplitude: {"factor": 2.0},
    rope_frequencies.longrope_amplitude: {"factor": 2.0, "original_length": 16},
    rope_frequencies.llama3_frequencies: ROTARY | {"factor": 2.0, "original_length": 16},
    relative_bias.alibi_bias: POSITIONS | {"slopes": np.array([0.5, 0.25])},
    relative_bias.alibi_slopes: {"num_heads": 6},
    relative_bias.t5_buckets: POSITIONS,
    relative_attention: QKV
    | {"key_table": floats(3, 4), "value_table": floats(3, 6), "buckets": np.zeros((5, 5), int)},
    elu_plus_one: {"x": floats(3)},
    linear_attention: QKV,
    linear_attention_recurrent: QKV,
    linear_attention_chunked: QKV,
    delta_rule: QKV | {"beta": np.full((2, 3, 5), 0.5, np.float32)},
    delta_rule_chunked: QKV | {"beta": np.full((2, 3, 5), 0.5, np.float32)},
    additive_scores: {"q": floats(2, 3, 4), "k": floats(2, 5, 4), "v": floats(4)},
    weighted_average: {"scores": floats(2, 3, 5), "v": floats(2, 5, 4)},
    negative_sampling: {"x": floats(3, 4), "weight": floats(7, 4), "targets": ids(7, 3), "negatives": ids(7, 3, 2)},
    rnn_step: {"x_gates": floats(2, 4), "h_gates": floats(2, 4)},
    gru_step: {"x_gates": floats(2, 12), "h_gates": floats(2, 12), "h": floats(2, 4)},
    lstm_step: {"x_gates": floats(2, 16), "h_gates": floats(2, 16), "c": floats(2, 4)},
    skip_gram_pairs: {"ids": ids(7, 9), "window_size": 2},
    cbow_windows: {"ids": ids(7, 9), "window_size": 2},
    subsample: {"ids": ids(7, 9), "threshold": 0.1, "rng": rng(0)},
    filters.top_k_filter: {"logits": LOGITS, "k": 3},
    filters.top_p_filter: {"logits": LOGITS, "p": 0.5},
    filters.min_p_filter: {"logits": LOGITS, "p": 0.5},
    filters.exclude_ids: {"logits": LOGITS, "ids": [3]},
    penalties.penalize_repetition: {"logits": LOGITS, "ids": [3], "penalty": 1.2},
    penalties.penalize_frequency: {"logits": LOGITS, "ids": [3]},
    penalties.add_bias: {"logits": LOGITS, "logit_bias": {3: 1.0}},
    sample: {"logits": LOGITS, "rng": rng(0)},
    context_start: {"num_ids": 9, "context_length": 4},
    warmup_cosine: {"step": 3, "num_steps": 10, "learning_rate": 0.1, "warmup_steps": 2},
    cost.count_parameters: {"config": GPT_CONFIG},
    cost.count_operations: {"config": GPT_CONFIG, "batch_size": 2, "length": 4},
    cost.count_activation_bytes: {"config": GPT_CONFIG, "batch_size": 2, "length": 4},
    cost.count_training_bytes: {"config": GPT_CONFIG, "batch_size": 2, "length": 4},
    layers.attention_to_previous: {"weights": WEIGHTS},
    layers.attention_to_first: {"weights": WEIGHTS},
    layers.attention_to_itself: {"weights": WEIGHTS},
    layers.induction: {"weights": WEIGHTS},
    layers.strongest_head: {"weights": [WEIGHTS], "measure": layers.induction},
}
CONFIGS = {  # class: its arguments
    ALiBi: {},
    T5Bias: {},
    RoPE: {},
    LinearScaling: {"factor": 2.0},
    NTKScaling: {"factor": 2.0},
    DynamicNTKScaling: {"factor": 2.0, "original_length": 8},
    YaRNScaling: {"factor": 2.0, "original_length": 8},
    Llama3Scaling: {"factor": 2.0, "original_length": 8},
    LongRoPEScaling: {"short_factor": (1.0, 2.0), "long_factor": (1.0, 2.0), "original_length": 8},
    QKNorm: {},
    SlidingWindow: {"size": 4},
    StridedMask: {"stride": 2},
    BlockSparseMask: {"block_size": 4, "layout": ((True, False), (False, True))},
    KVCache: {},
    RecurrentState: {},
    SlidingWindowKVCache: {"window": 3},
    ModelKVCache: {"context_length": 8, "layers": [KVCache()]},
    NegativeSampler: {"counts": [3, 2, 1]},
    Sampling: {},
}
SEQUENCE = {"q": floats(2, 3, 3), "k": floats(2, 5, 4), "v": floats(2, 5, 6)}
FORWARDS = {  # layer: the arguments of its forward
    SimplifiedSelfAttention: {"x": floats(2, 5, 6)},
    SelfAttentionV1: {"x": floats(2, 5, 6)},
    SelfAttentionV2: {"x": floats(2, 5, 6)},
    CausalAttention: {"x": floats(2, 5, 6)},
    MultiHeadAttentionWrapper: {"x": floats(2, 5, 6)},
    MultiHeadAttention: {"x": floats(2, 5, 6)},
    CausalSelfAttention: {"x": floats(2, 5, 8)},
    CrossAttention: {"x": floats(2, 5, 8), "context": floats(2, 3, 6)},
    GroupedQueryAttention: {"x": floats(2, 5, 8)},
    MultiHeadLatentAttention: {"x": floats(2, 5, 8)},
    DifferentialAttention: {"x": floats(2, 5, 8)},
    ShawAttention: {"x": floats(2, 5, 8)},
    LinearAttention: {"x": floats(2, 5, 8)},
    DeltaNet: {"x": floats(2, 5, 8)},
    AdditiveAttention: SEQUENCE,
    DotAttention: {"q": floats(2, 3, 4), "k": floats(2, 5, 4), "v": floats(2, 5, 6)},
    GeneralAttention: SEQUENCE,
    ConcatAttention: SEQUENCE,
    RNN: {"x": floats(2, 5, 3)},
    GRU: {"x": floats(2, 5, 3)},
    LSTM: {"x": floats(2, 5, 3)},
    RNNCell: {"x": floats(2, 3)},
    GRUCell: {"x": floats(2, 3)},
    LSTMCell: {"x": floats(2, 3)},
    Seq2Seq: {"source": ids(7, 2, 5), "inputs": ids(9, 2, 4)},
    SkipGram: {"ids": ids(9, 4)},
    CBOW: {"ids": ids(9, 4, 2)},
}
METHODS = {  # name: a function that returns the method and its arguments
    "generate": lambda: (
        autoregressive.generate,
        {"model": small_gpt(), "prompts": [[1, 2], [3]], "max_new_tokens": 2, "rng": rng(0)},
    ),
    "complete": lambda: (autoregressive.complete, {"model": small_gpt(), "prompt": [1, 2], "max_new_tokens": 2}),
    "generate_tokens": lambda: (
        text.generate_tokens,
        {"model": small_gpt(256), "tokenizer": TOKENIZER, "prompt": [1, 2], "max_new_tokens": 2},
    ),
    "NextLogits": lambda: (NextLogits, {"model": small_gpt()}),
    "StopStrings.push": lambda: (StopStrings(["ab"]).push, {"text": "xa"}),
    "NegativeSampler.sample": lambda: (NegativeSampler([3, 1]).sample, {"shape": 3, "rng": rng(0)}),
    "RoPE.frequencies": lambda: (RoPE().frequencies, {"head_dim": 8}),
    "KVCache.truncate": lambda: (KVCache().truncate, {"length": 3}),
    "KVCache.positions": lambda: (KVCache().positions, {"num_new": 3}),
    "ModelKVCache.truncate": lambda: (ModelKVCache(8, [KVCache()]).truncate, {"length": 0}),
    "ModelKVCache.positions": lambda: (ModelKVCache(8, [KVCache()]).positions, {"num_new": 3}),
    "GroupedQueryAttention.new_kv_cache": lambda: (GroupedQueryAttention(**MODEL, rng=rng(0)).new_kv_cache, {}),
    "GQA.build": lambda: (GQA(2).build, {"d_model": 8, "context_length": 8}),
    "Seq2Seq.loss": lambda: (
        Seq2Seq(**PARAMETERS[Seq2Seq], rng=rng(0)).loss,
        FORWARDS[Seq2Seq] | {"targets": ids(9, 2, 4)},
    ),
    "Seq2Seq.greedy_decode": lambda: (
        Seq2Seq(**PARAMETERS[Seq2Seq], rng=rng(0)).greedy_decode,
        {"source": ids(7, 2, 5), "bos_id": 0, "eos_id": 1, "max_length": 3},
    ),
    "SkipGram.loss": lambda: (SkipGram(9, 4, rng=rng(0)).loss, {"ids": ids(9, 4), "targets": ids(9, 4)}),
    "SkipGram.most_similar": lambda: (SkipGram(9, 4, rng=rng(0)).most_similar, {"word_id": 3, "count": 2}),
    "trace": lambda: (trace, {"model": small_gpt(), "ids": ids(11, 1, 4), "targets": ids(11, 1, 4)}),
    "layers_of": lambda: (layers.layers_of, {"model": small_gpt(), "ids": ids(11, 4)}),
    "logit_lens": lambda: (layers.logit_lens, {"model": small_gpt(), "hidden_state": floats(2, 4)}),
    "SGD": lambda: (SGD, {"parameters": parameters(), "learning_rate": 0.1}),
    "AdamW": lambda: (AdamW, {"parameters": parameters()}),
    "grad_norm": lambda: (grad_norm, {"parameters": parameters().items()}),
    "clip_grad_norm": lambda: (clip_grad_norm, {"parameters": parameters().items(), "max_norm": 1.0}),
    "accumulated_training_step": lambda: _step(accumulated_training_step),
}


def _step(function):
    model = small_gpt()
    batch = (ids(11, 1, 4), ids(11, 1, 4))
    arguments = {"model": model, "optimizer": SGD(model.named_parameters(), 0.1)}
    arguments["micro_batches"] = [(1.0, batch)]
    return function, arguments


def _calls():
    for function, arguments in FUNCTIONS.items():
        yield function.__name__, lambda f=function, a=arguments: (f, a)
    for kind, arguments in {**PARAMETERS, **CONFIGS}.items():
        yield kind.__name__, lambda f=kind, a=arguments: (f, a)
    for kind, arguments in FORWARDS.items():
        yield (
            f"{kind.__name__}.forward",
            lambda k=kind, a=arguments: (k(**PARAMETERS[k], **({"rng": rng(0)} if PARAMETERS[k] else {})).forward, a),
        )
    yield from METHODS.items()


CALLS = dict(_calls())

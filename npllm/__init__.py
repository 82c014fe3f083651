"""Everything inside a GPT, in NumPy you can read, every number checked against PyTorch.

The folders, in the order in which data flows; read them from top to bottom:

    core                  the conventions: cache, checks, Parameter and Module, gradient check
    utils                 files, downloads, terminal
    tokenizers            text → ids: words, characters, byte pair encoding, GPT-2
    batching              ids → windows of inputs and shifted targets → batches; token files
    layers                softmax, linear, embedding, positions, normalization, activations, feed-forward, loss
    attention             simplified → self → causal → multi-head; the variants
    before_transformers   word2vec, recurrent networks, attention in translation
    weights               weight files: safetensors, Hugging Face's folders
    models                transformer block, GPT, decoder
    training              optimizers, schedules, trainer, checkpoints
    generation            sampling, next-token prediction in a loop
    inspect               every intermediate array of a model; parameters, operations, bytes
    experiments           small trainings that measure a claim
    lessons               the tour
    cli                   the commands

An import points to a folder above in this list. `npllm.functional` offers every function under its public name.
"""


def __getattr__(name: str) -> str:
    """`npllm.__version__`: read when it is asked for, because the import of importlib.metadata takes 30 ms."""
    if name != "__version__":
        raise AttributeError(f"module 'npllm' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("npllm")
    except PackageNotFoundError:  # used from a source tree that was never installed
        return "unknown"

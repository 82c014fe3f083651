"""The jobs of `python -m tests.soak`: JOBS is name → function(folder, rng), which returns the function for one unit.

Each unit also checks its result: a text that is decoded must be the text that was encoded, and weights and ids that
are written and read again must be equal.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from npllm.batching.dataset import WindowDataset
from npllm.batching.file_encoding import encode_file
from npllm.batching.token_file import open_token_file
from npllm.generation.autoregressive import complete, generate
from npllm.generation.text import generate_text
from npllm.models.gpt import GPT, GPTConfig
from npllm.models.presets import architecture, build
from npllm.models.pretrained import Pretrained, open_pretrained
from npllm.models.saving import save_pretrained
from npllm.tokenizers import BPETokenizer, GPT2Tokenizer, StreamDecoder, train_bpe
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.loading import load_tokenizer
from npllm.training.log import StepLog
from npllm.training.run import create_run, open_run
from npllm.training.trainer import Trainer, TrainingConfig

Unit = Callable[[], None]
END = "<|endoftext|>"
CJK, EMOJI = (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF)


def random_text(rng: np.random.Generator, length: int, code_points: tuple[int, int] = (97, 122)) -> str:
    """Words of one to twelve random characters."""
    points = rng.integers(*code_points, length, endpoint=True)
    points[np.cumsum(rng.integers(2, 14, length // 2 + 1))[:-1] % max(length, 1)] = 32
    return "".join(map(chr, points))


def training(folder: Path, rng: np.random.Generator) -> Unit:
    """Ten steps of one Trainer that is never replaced."""
    model = GPT(GPTConfig(64, 32, 32, 2, 2, residual_dropout=0.1), rng=rng)
    ids = rng.integers(0, 64, 5000)
    config = TrainingConfig(num_steps=1 << 40, batch_size=4, grad_accum_steps=2, eval_interval=10, eval_batches=2)
    windows = WindowDataset(ids, 32, 1), WindowDataset(ids[:500], 32, 32)
    trainer = Trainer(model, *windows, config)

    def unit():
        losses = [trainer.step().loss for _ in range(10)]
        assert np.isfinite(losses).all()

    return unit


def runs(folder: Path, rng: np.random.Generator) -> Unit:
    """A run in a folder: three steps with checkpoints, opened again, three more, the model saved."""

    def unit():
        text = random_text(rng, 2000)
        tokenizer, path = CharacterTokenizer.from_text(text + "\n"), folder / "run"
        config = TrainingConfig(num_steps=6, batch_size=2, warmup_steps=1, eval_interval=2, eval_batches=1)
        run = create_run(path, text, tokenizer, GPTConfig(tokenizer.vocab_size, 16, 16, 1, 2), config)
        for _ in range(3):
            _step(run)
        weights = run.model.state_dict()
        run = open_run(path)
        assert all(np.array_equal(weights[name], array) for name, array in run.model.state_dict().items())
        for _ in range(3):
            _step(run)
        run.save_model()
        shutil.rmtree(path)

    return unit


def _step(run) -> None:
    log = StepLog(run.folder / "log.jsonl", run.trainer.steps_done)
    metrics = run.trainer.step(run.save_best)
    log.add({"step": metrics.step, "loss": metrics.loss})
    run.save()


def generation(folder: Path, rng: np.random.Generator) -> Unit:
    """Ids of a GPT and of two decoders, longer than their context, with random options."""
    models = [GPT(GPTConfig(300, 24, 32, 2, 2), rng=rng)]
    models += [build(architecture(name, 300, 24, 32, 2, 2), rng=rng) for name in ("llama", "gemma2")]
    tokenizer = train_bpe(random_text(rng, 3000), vocab_size=300)

    def unit():
        for model in models:
            prompts = [rng.integers(0, 300, rng.integers(1, 40)).tolist() for _ in range(rng.integers(1, 4))]
            options = {
                "temperature": float(rng.choice([0.0, 0.7, 1.5])), "top_k": int(rng.integers(1, 300)),
                "top_p": float(rng.uniform(0.1, 1)), "repetition_penalty": float(rng.choice([1.0, 1.3])),
                "frequency_penalty": float(rng.choice([0.0, 0.5])), "use_kv_cache": bool(rng.integers(2)),
                "stop_strings": ["qq", "\n"] if rng.integers(2) else [],
            }  # fmt: skip
            for _ in generate(model, prompts, 30, tokenizer=tokenizer, rng=rng, **options):
                pass
            "".join(generate_text(model, tokenizer, prompts[0], 10, rng=rng, stop_strings=["zz"]))

    return unit


def encoding(folder: Path, rng: np.random.Generator) -> Unit:
    """New texts, short and long, in Latin letters, Chinese characters and emoji, encoded and decoded."""
    tokenizer = GPT2Tokenizer.load()

    def unit():
        for code_points in ((97, 122), CJK, EMOJI):
            short = [random_text(rng, int(n), code_points) for n in rng.integers(1, 50, 30)]
            long = random_text(rng, 20_000, code_points)
            assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(short)] == short
            ids = tokenizer.encode(long)
            assert tokenizer.decode(ids) == long and tokenizer.count(long) == len(ids)
            decoder = StreamDecoder(tokenizer)
            assert "".join(map(decoder.push, ids[:200])) + decoder.finish() == tokenizer.decode(ids[:200])
            assert tokenizer.encode_with_offsets(short[0])[0].tolist() == tokenizer.encode(short[0])

    return unit


def bpe_training(folder: Path, rng: np.random.Generator) -> Unit:
    """A vocabulary of a new text."""

    def unit():
        text = random_text(rng, 20_000)
        tokenizer = train_bpe(text, vocab_size=350, special_tokens=[END])
        assert tokenizer.decode(tokenizer.encode(text)) == text

    return unit


def tokenizer_files(folder: Path, rng: np.random.Generator) -> Unit:
    """A vocabulary written and read in every format."""
    text, folder = random_text(rng, 5000), folder / "vocabulary"
    tokenizer = train_bpe(text, vocab_size=400)
    ids = tokenizer.encode(text)

    def unit():
        folder.mkdir()
        for name in ("vocabulary.json", "tokenizer.json", "vocabulary.tiktoken", "."):
            tokenizer.save(folder / name)
            pattern = "gpt2" if name.endswith("tiktoken") else None  # this format does not hold it
            assert BPETokenizer.load(folder / name, pattern=pattern).encode(text) == ids
        assert load_tokenizer(folder / "tokenizer.json").decode(ids) == text
        shutil.rmtree(folder)

    return unit


def model_folders(folder: Path, rng: np.random.Generator) -> Unit:
    """A model folder written, opened, and used."""
    tokenizer = train_bpe(random_text(rng, 3000), vocab_size=300)
    models = [GPT(GPTConfig(300, 24, 32, 2, 2), rng=rng), build(architecture("llama", 300, 24, 32, 2, 2), rng=rng)]

    def unit():
        for number, model in enumerate(models):
            path = folder / f"model-{number}"
            save_pretrained(Pretrained(None, model, tokenizer, frozenset(), None, None, None), path)
            opened, prompt = open_pretrained(path), rng.integers(0, 300, 9).tolist()
            new_ids = [complete(m, prompt, 5, temperature=0) for m in (model, opened.model)]
            assert new_ids[0] == new_ids[1]
            shutil.rmtree(path)

    return unit


def token_files(folder: Path, rng: np.random.Generator) -> Unit:
    """A text file encoded to a token file, which is opened and read."""
    tokenizer = GPT2Tokenizer.load()

    def unit():
        text, path = random_text(rng, 50_000), folder / "text.tokens"
        (folder / "text.txt").write_text(text, encoding="utf-8")
        encode_file(folder / "text.txt", path, tokenizer, overwrite=True)
        assert tokenizer.decode(open_token_file(path).tolist()) == text

    return unit


JOBS = {
    "training": training, "runs": runs, "generation": generation, "encoding": encoding, "BPE training": bpe_training,
    "tokenizer files": tokenizer_files, "model folders": model_folders, "token files": token_files,
}  # fmt: skip

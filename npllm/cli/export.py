"""`npllm export`: write a model with its tokenizer into a folder that transformers opens.

run of `npllm train`, GGUF file, folder → config.json, model.safetensors, tokenizer.json, …
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.text import Text

from npllm.cli.options import MODEL_HELP, check_output_folder, vocabulary_path
from npllm.cli.text_generation import open_model
from npllm.models.saving import save_pretrained
from npllm.weights.folder_files import CONFIG
from npllm.weights.llama import OWN
from npllm.weights.model_folder import read_config


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("export", help="write a model and its tokenizer into a folder for transformers")
    command.add_argument("--model", metavar="MODEL", required=True, help=MODEL_HELP)
    command.add_argument("--out", metavar="FOLDER", required=True, help="the folder to write")
    command.add_argument(
        "--best", action="store_true", help="of a run of npllm train: the weights with the lowest validation loss"
    )
    command.add_argument(
        "--vocabulary", metavar="PATH", type=vocabulary_path, help="a file or folder with the tokenizer, or gpt2"
    )
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """Open the model and save it; weights are written as float32."""
    check_output_folder("--out", options.out)
    if (Path(options.out) / CONFIG).exists():
        raise FileExistsError(f"--out is {options.out}, which has a {CONFIG}; choose another folder")
    pretrained = open_model(options.model, options.vocabulary, options.best)
    save_pretrained(pretrained, options.out)
    console.print(Text(f"wrote the model and its tokenizer to {options.out}"), soft_wrap=True)
    if read_config(options.out)[0]["model_type"] == OWN:
        console.print("transformers has no model of this kind; npllm opens the folder", highlight=False)

"""From ids to windows of inputs and shifted targets, and from windows to batches. See README.md."""

from npllm.batching.dataset import GPTDatasetV1, WindowDataset, encode_for_training
from npllm.batching.file_encoding import encode_file
from npllm.batching.infinite_batches import InfiniteBatches
from npllm.batching.loader import DataLoader, create_dataloader_v1
from npllm.batching.token_file import open_token_file, write_token_file
from npllm.batching.windows import EpochStats, epoch_stats, sliding_windows

__all__ = [
    "DataLoader",
    "EpochStats",
    "GPTDatasetV1",
    "InfiniteBatches",
    "WindowDataset",
    "create_dataloader_v1",
    "encode_file",
    "encode_for_training",
    "epoch_stats",
    "open_token_file",
    "sliding_windows",
    "write_token_file",
]

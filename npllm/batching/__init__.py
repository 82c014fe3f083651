"""Ids to windows of inputs and shifted targets, and windows to batches.

Read in this order: windows, dataset, loader, endless, token_file, resumable_token_file, encoding; and contexts, which
word vectors are learned from.
"""

from npllm.batching.dataset import GPTDatasetV1, WindowDataset, encode_for_training
from npllm.batching.file_encoding import encode_file
from npllm.batching.infinite_batches import InfiniteBatches
from npllm.batching.loader import DataLoader, create_dataloader_v1
from npllm.batching.token_file import open_token_file, write_token_file
from npllm.batching.windows import EpochStats, account, sliding_windows

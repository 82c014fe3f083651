"""Ids to windows of inputs and shifted targets, and windows to batches.

Read in this order: windows, dataset, loader, endless, token_file, resumable_token_file, encoding; and contexts, which
word vectors are learned from.
"""

from npllm.batching.contexts import NegativeSampler, cbow_windows, skip_gram_pairs, subsample
from npllm.batching.dataset import GPTDatasetV1, WindowDataset, encode_for_training
from npllm.batching.encoding import encode_file
from npllm.batching.endless import EndlessBatches
from npllm.batching.loader import DataLoader, create_dataloader_v1
from npllm.batching.token_file import open_token_file, write_token_file
from npllm.batching.windows import EpochAccount, account, sliding_windows

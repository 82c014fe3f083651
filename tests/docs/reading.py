"""The reading order of npllm's files, and the path of 24 files for a first reading."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ORDER = {  # folder: its files in reading order
    "core": (
        "cache checks ieee_arithmetic module broadcasting gradient_check state config threads row_blocks matrix_product"
    ),
    "utils": (
        "file_errors temporary_files files text_files json_files checked_json fields gguf_file corpora "
        "allocator signals terminal plots markdown"
    ),
    "tokenizers": (
        "words characters base bpe_training vocabulary bpe dispatch gpt2 sentence_piece streaming counting offsets "
        "text_blocks loading"
    ),
    "tokenizers/byte_pair": (
        "train pretokenize backtracking published_patterns pattern_spellings pre_tokenizers merge special_tokens "
        "normalizers added_tokens surrogates encode bytes_to_unicode unicode_tables normalization_table"
    ),
    "tokenizers/character_bpe": ("merge vocabulary segments added_tokens normalization charsmap encode decode"),
    "tokenizers/formats": (
        "reading npllm_json file_kind tiktoken_ranks known_vocabularies openai tekken js_tiktoken oniguruma "
        "hugging_face_components hugging_face hugging_face_sentence_piece hugging_face_sentence_piece_writer "
        "hugging_face_characters sentence_piece_model vocabulary_files gguf"
    ),
    "tokenizers/vectorized": (
        "char_classes pretokenize_gpt2 safe_split_points pretokenize_gpt4 pretokenize_deepseek pretokenize_steps "
        "pretokenizers ragged hash_table pretoken_table pretoken_cache blocks parallel_merge merge_tree encode "
        "decode pretoken_counts incremental_training"
    ),
    "batching": "windows dataset loader infinite_batches token_file partial_token_file file_encoding",
    "layers": (
        "softmax linear few_rows embedding positions dropout normalization erf activations feed_forward "
        "gated_feed_forward mixture_of_experts cross_entropy linear_cross_entropy"
    ),
    "attention": (
        "masks scaled_dot_product base simplified self_attention causal multi_head kv_cache causal_self_attention "
        "cross softcap mask_rule distance_bias plain tile_plan tiled_head small_tiles small_tile_head tiled paths "
        "pytorch_interface"
    ),
    "attention/variants": (
        "options rope_frequencies rope_scaling rope relative_bias grouped_query shaw differential mla recurrence "
        "chunks normalizer linear_attention_chunked linear_attention triangular delta_rule_chunked delta_net"
    ),
    "before_transformers": (
        "skipgram negative_sampling word2vec recurrent_cells recurrent alignment additive luong seq2seq_decoders "
        "seq2seq"
    ),
    "weights": "safetensors folder_files model_folder fitting config_fields gpt2 tensor_names llama "
    "gguf gguf_fields gguf_config gguf_rope",
    "models": (
        "config_types transformer_block language_model recompute gpt decoder_config decoder_block decoder one_position "
        "presets catalog pretrained saving"
    ),
    "models/hugging_face": "model_type llama llama_variants gemma olmo neox rope model_types saving",
    "training": (
        "optimizers schedules clipping step trainer checkpoint log validation_split run_config run_tokenizer run_files "
        "run_lock run_checkpoints run"
    ),
    "generation": (
        "filters penalties sampling next_logits one_block stop_strings autoregressive text template_sandbox "
        "chat_template chat"
    ),
    "inspect": "trace cost layers",
    "experiments": (
        "experiment statistics results_file figure catalog texts equal_size small_training lookup_task recall "
        "recall_distance seq2seq_bottleneck word_contexts word_similarity frozen_embeddings vocabulary_size "
        "gradient_noise batch_size training_stride positions softmax_overflow attention_scale head_diversity shortcuts "
        "initial_loss kv_cache attention_memory shared_keys training_options attention_relatives published_model "
        "published_layers published_quantization published_positions attention_variants sequence_tasks "
        "seq2seq_comparison word_vectors"
    ),
    "lessons": "bigram alignment_figure",
    "lessons/tour": "run state text attention learning figures published",
    "cli": (
        "main options output tour tokenize data models bpe verify attention train training_progress text_generation "
        "generate chat export word2vec seq2seq experiments"
    ),
}
PATH = [  # file, section of Raschka's book, paper
    ("tokenizers/words", "2.2 – 2.4", ""),
    ("tokenizers/byte_pair/train", "2.5", "Sennrich et al. 2016"),
    ("tokenizers/byte_pair/merge", "2.5", ""),
    ("batching/windows", "2.6", ""),
    ("core/cache", "", ""),
    ("layers/softmax", "3.3", ""),
    ("layers/linear", "3.4", ""),
    ("layers/embedding", "2.7", ""),
    ("layers/positions", "2.8", "Vaswani et al. 2017"),
    ("core/module", "", ""),
    ("attention/scaled_dot_product", "3.4", "Vaswani et al. 2017"),
    ("attention/simplified", "3.3", ""),
    ("attention/self_attention", "3.4", ""),
    ("attention/causal", "3.5", ""),
    ("attention/multi_head", "3.6", "Vaswani et al. 2017"),
    ("layers/normalization", "4.2", "Ba et al. 2016"),
    ("layers/activations", "4.3", "Hendrycks, Gimpel 2016"),
    ("layers/feed_forward", "4.3", ""),
    ("layers/cross_entropy", "5.1", "Shannon 1948"),
    ("models/transformer_block", "4.5", "Radford et al. 2019"),
    ("models/gpt", "4.6", "Radford et al. 2019"),
    ("training/optimizers", "5.2", "Loshchilov, Hutter 2019"),
    ("training/step", "5.2", ""),
    ("generation/sampling", "5.3", "Holtzman et al. 2020"),
]


def title(path: Path) -> str:
    """The first sentence of a file's docstring, without the period."""
    first = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n\n")[0].replace("\n", " ")
    return first.split(". ")[0].rstrip(".")


def lines(path: Path) -> int:
    """The number of lines."""
    return path.read_text(encoding="utf-8").count("\n")

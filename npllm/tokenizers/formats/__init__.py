"""Vocabulary files of npllm, OpenAI, tiktoken and Hugging Face.

Read in this order: npllm_json, tiktoken_ranks, openai, oniguruma, hugging_face, vocabulary_files.
"""

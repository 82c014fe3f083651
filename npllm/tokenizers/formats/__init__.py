"""Vocabulary files of npllm, OpenAI, tiktoken, Hugging Face, Mistral and llama.cpp.

Read in this order: npllm_json, file_kind, tiktoken_ranks, known_vocabularies, openai, tekken, js_tiktoken, oniguruma,
hugging_face_components, hugging_face, vocabulary_files, gguf.
"""

"""Vocabulary files of tiktoken, OpenAI and Hugging Face."""

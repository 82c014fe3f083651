"""The tour: a text goes through every part of npllm, section by section."""

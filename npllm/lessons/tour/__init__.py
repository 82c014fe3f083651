"""The tour: one text passes through every part of npllm, section by section."""

"""Injected bugs: the suite, tested. Each well-known bug is put into a copy of npllm, and the tests must fail there."""

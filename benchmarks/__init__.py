"""Benchmarks: npllm beside other implementations of the same computation, and beside plain Python loops.

One file for each kind of job; `python -m benchmarks --help` says how to run them.
"""

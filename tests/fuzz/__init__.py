"""The fuzzer: random damage of files, random numbers and random calls, for as long as you like."""

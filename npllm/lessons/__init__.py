"""Lessons: how to use the library, step by step. Read in this order: tour (run, text, attention, learning), bigram."""

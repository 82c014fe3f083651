"""Lessons: the library shown at work. Read in this order: tour (run, text, attention, learning), bigram."""

"""Helps of the tests: synthetic corpora."""

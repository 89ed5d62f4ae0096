"""Judging a model by what it makes."""

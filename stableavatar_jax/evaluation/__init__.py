"""Measures a model by its videos."""

"""Inputs to conditions."""

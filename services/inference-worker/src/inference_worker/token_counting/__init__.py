"""Counts the tokens that a provider does not report."""

"""Purges of the response cache."""

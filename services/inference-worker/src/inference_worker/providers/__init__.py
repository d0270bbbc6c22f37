"""Providers: what the worker can call, one kind per module."""

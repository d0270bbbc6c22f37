"""Prices: the price book, its cache, and the messages that invalidate it."""

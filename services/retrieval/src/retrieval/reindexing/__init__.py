"""Indexing the keywords of files anew when the rules for words have changed."""

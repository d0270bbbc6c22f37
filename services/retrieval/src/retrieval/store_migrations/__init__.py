"""Changing a vector store to another embedding model while it is searched and filled."""

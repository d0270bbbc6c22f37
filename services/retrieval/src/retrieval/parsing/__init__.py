"""Readers of documents. They run in a child process: what a document does to its reader hurts nobody else.

`parent` is what the service imports; the package itself is empty, so that a child starts fast.
"""

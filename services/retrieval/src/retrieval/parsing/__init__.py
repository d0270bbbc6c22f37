"""Parsers of documents. They run in a child process, so that a document that crashes its parser crashes nothing else.

The service imports `subprocess_parser`. This module is empty, so that the child process starts fast.
"""

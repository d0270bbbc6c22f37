"""Scores of documents for a query: prepare, infer, finalize, without a stream."""

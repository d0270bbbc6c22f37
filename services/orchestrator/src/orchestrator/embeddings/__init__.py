"""Embeddings: prepare, infer, finalize, without a stream."""

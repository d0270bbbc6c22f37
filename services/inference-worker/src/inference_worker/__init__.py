"""Execution: providers, attempts, fallback, embeddings."""

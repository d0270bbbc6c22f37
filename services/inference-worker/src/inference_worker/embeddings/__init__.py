"""Embeddings: texts to vectors, by the first candidate that answers."""

"""Changes of vector stores to other embedding models, made by retrieval."""

"""What is left of deleted files and vector stores, counted by retrieval."""

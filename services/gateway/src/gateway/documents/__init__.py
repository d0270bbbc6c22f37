"""Files, vector stores and what belongs to them, kept by retrieval."""

"""Files, stored by retrieval."""

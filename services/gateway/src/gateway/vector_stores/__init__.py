"""Vector stores, kept and searched by retrieval."""

"""Knowledge: files, chunks, vectors, hybrid search."""

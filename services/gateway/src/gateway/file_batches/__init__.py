"""Files that are put into a vector store together, kept by retrieval."""

"""The stream from the orchestrator, shared by all dialects and by embeddings."""

"""The edge: REST, SSE, authentication and keys."""

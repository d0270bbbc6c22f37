"""Parts of a tenant that API keys belong to."""

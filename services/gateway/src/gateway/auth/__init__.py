"""API keys: their format, their verification through a cache, their revocation on all replicas."""

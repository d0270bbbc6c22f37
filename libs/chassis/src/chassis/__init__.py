"""How an Argosy service starts, talks, fails, logs and stops."""

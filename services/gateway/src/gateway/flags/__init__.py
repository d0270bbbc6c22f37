"""Feature flags, for operators; and what the gateway itself asks of them. They live in the orchestrator."""

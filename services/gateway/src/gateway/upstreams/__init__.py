"""Upstreams and their credentials, for operators. They live in the orchestrator; workers call them."""

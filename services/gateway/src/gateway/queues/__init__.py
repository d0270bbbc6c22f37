"""Queues, and jobs of all tenants, for operators; in the orchestrator."""

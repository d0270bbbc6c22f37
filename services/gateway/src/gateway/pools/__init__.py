"""Pools of workers for some tenants, for operators; in the orchestrator."""

"""Batches of requests, run by the orchestrator."""

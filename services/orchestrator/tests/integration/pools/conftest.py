"""Queues on a real Postgres, with the store of their jobs."""

from services.orchestrator.tests.integration.jobs.conftest import store

__all__ = ["store"]

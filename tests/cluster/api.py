"""The gateway of the release, as its clients and operators call it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx

from tests.cluster.kube import RELEASE, port_forward, wait_for
from tests.cluster.release import Release

PARALLEL = 8
FINAL = ("succeeded", "failed", "cancelled")


@contextmanager
def client(release: Release, key: str = "") -> Iterator[httpx.Client]:
    """A client with the key of the release's first tenant, or with `key`."""
    headers = {"authorization": f"Bearer {key or release.api_key}"}
    with (
        port_forward(f"service/{RELEASE}-gateway", 8080) as address,
        httpx.Client(base_url=address, headers=headers, timeout=60) as http,
    ):
        yield http


def ok(response: httpx.Response) -> Any:
    assert response.is_success, response.text
    return response.json() if response.content else None


def await_models(http: httpx.Client, *names: str) -> None:
    """Wait until the gateway lists models whose routes were set after the orchestrator started."""

    def listed() -> bool:
        answer = http.get("/v1/models")
        return all(f'"{name}"' in answer.text for name in names)

    wait_for(f"models {names} are listed", 60, listed)


def submit_jobs(http: httpx.Client, models: Sequence[str]) -> list[str]:
    """Submit a job for each model, some at once; returns their ids."""

    def submit(model: str) -> str:
        body = {"model": model, "max_tokens": 32, "messages": [{"role": "user", "content": "Go on."}]}
        job: str = ok(http.post("/v1/jobs", json={"endpoint": "/v1/chat/completions", "body": body}))["id"]
        return job

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(submit, models))


def unfinished(admin: httpx.Client, pool: str = "default") -> int:
    """Jobs of a pool that wait or run."""
    queues = ok(admin.get("/admin/v1/queues"))["data"]
    return sum(q["queued"] + q["dispatched"] + q["running"] for q in queues if q["pool"] == pool)


async def finished(release: Release, jobs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of those jobs that have ended, by id."""
    connection = await asyncpg.connect(release.superuser_dsn)
    try:
        rows = await connection.fetch(
            "SELECT job_id, state, errors, crashes, pool, worker_id FROM orchestration.finished_jobs "
            "WHERE job_id = ANY ($1)",
            jobs,
        )
    finally:
        await connection.close()
    return {row["job_id"]: dict(row) for row in rows}


async def workers_of(release: Release, pool: str) -> set[str]:
    """The ids of the workers that have said that they are of a pool."""
    connection = await asyncpg.connect(release.superuser_dsn)
    try:
        rows = await connection.fetch("SELECT worker_id FROM orchestration.job_workers WHERE pool = $1", pool)
    finally:
        await connection.close()
    return {row["worker_id"] for row in rows}

"""Workers scale on their queue: out, in without consuming an attempt, and not at all while the figures are missing."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.cluster.api import await_models, client, finished, submit_jobs, unfinished
from tests.cluster.kube import NAMESPACE, RELEASE, attempt, has_keda, kubectl, replicas, wait_for
from tests.cluster.plot import Sample, plot
from tests.cluster.release import MAX_WORKERS, SCALE_DOWN_SECONDS, Release, add_models

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(1800)]

WORKERS = f"{RELEASE}-inference-worker"
HPA = f"keda-hpa-{WORKERS}"
MODELS = {f"sim-{seconds}s": f"slow-first-byte?delay={seconds}" for seconds in (2, 3, 4, 5)}
JOBS = 300
TRICKLE_SECONDS = 1.0
PLOT = os.environ.get("TESTS_CLUSTER_PLOT")
"""Where the drill's plot is written, if anywhere."""


@pytest.fixture(scope="module")
def scaled(release: Release) -> Release:
    if not has_keda():
        pytest.skip("the cluster has no KEDA")
    asyncio.run(add_models(release, MODELS))
    with client(release) as http:
        await_models(http, *MODELS)
    return release


def test_a_backlog_adds_workers_and_their_removal_loses_no_job_and_consumes_no_attempt(scaled: Release) -> None:
    jobs: list[str] = []
    samples: list[Sample] = []
    with client(scaled) as http, client(scaled, scaled.admin_key) as admin:
        wait_for("one worker", 300, lambda: replicas(WORKERS) == 1)
        # KEDA asks again, some time later, when the scaler was not there yet when the ScaledObject was made.
        wait_for("the HPA has its figure", 300, lambda: "ValidMetricFound" in described())
        began_at = time.monotonic()
        samples.append(Sample(0, 1, 0))
        jobs += submit_jobs(http, [list(MODELS)[n % len(MODELS)] for n in range(JOBS)])

        def sample() -> Sample:
            samples.append(Sample(time.monotonic() - began_at, replicas(WORKERS), unfinished(admin)))
            return samples[-1]

        wait_for("several workers", 120, lambda: sample().replicas > 1)
        wait_for("the backlog is done", 600, lambda: sample().depth == 0, 2)
        # Workers that are removed now have jobs.
        with trickle(http, jobs):
            wait_for("one worker again", 600, lambda: sample().replicas == 1, 2)
        wait_for("the last job is done", 120, lambda: sample().depth == 0)
    ended = asyncio.run(finished(scaled, jobs))
    report(samples, len(jobs))

    assert max(sample.replicas for sample in samples) == MAX_WORKERS
    assert len(ended) == len(jobs)
    assert {row["state"] for row in ended.values()} == {"succeeded"}
    assert {(row["errors"], row["crashes"]) for row in ended.values()} == {(0, 0)}


def test_while_the_figures_are_missing_the_size_stays_and_afterwards_it_follows_again(scaled: Release) -> None:
    with client(scaled) as http, client(scaled, scaled.admin_key) as admin:
        jobs = submit_jobs(http, ["sim-5s"] * 60)
        wait_for("all workers", 180, lambda: replicas(WORKERS) == MAX_WORKERS)
        wait_for("the jobs are done", 300, lambda: unfinished(admin) == 0)
    # With figures it would be smaller soon: no job is left.
    with without_orchestrator():
        wait_for("the HPA says what is missing", 120, lambda: "FailedGetExternalMetric" in described())
        sizes = {replicas(WORKERS) for _ in every(5, 2 * SCALE_DOWN_SECONDS)}
        print(described())
    wait_for("one worker again", 600, lambda: replicas(WORKERS) == 1, 2)
    after = described()
    print(after)
    ended = asyncio.run(finished(scaled, jobs))

    assert sizes == {MAX_WORKERS}
    assert "ValidMetricFound" in after
    assert len(ended) == len(jobs)
    assert {(row["state"], row["errors"], row["crashes"]) for row in ended.values()} == {("succeeded", 0, 0)}


def described() -> str:
    return attempt("kubectl", "--namespace", NAMESPACE, "describe", "hpa", HPA).stdout


def every(seconds: float, until: float) -> Iterator[None]:
    deadline = time.monotonic() + until
    while time.monotonic() < deadline:
        yield
        time.sleep(seconds)


@contextmanager
def without_orchestrator() -> Iterator[None]:
    """Stop what KEDA asks, and start it again."""
    deployment = f"deployment/{RELEASE}-orchestrator"
    kubectl("scale", deployment, "--replicas=0")
    try:
        yield
    finally:
        kubectl("scale", deployment, "--replicas=1")
        kubectl("rollout", "status", deployment, "--timeout=120s", seconds=150)


@contextmanager
def trickle(http: httpx.Client, jobs: list[str]) -> Iterator[None]:
    """Submit a job a second until the block ends."""
    stop = threading.Event()

    def submit() -> None:
        while not stop.wait(TRICKLE_SECONDS):
            jobs.extend(submit_jobs(http, ["sim-4s"]))

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def report(samples: list[Sample], jobs: int) -> None:
    changes = [b for a, b in pairwise(samples) if a.replicas != b.replicas]
    print("replicas:", samples[0].replicas, *(f"→ {s.replicas} after {s.at:.0f} s ({s.depth} jobs)" for s in changes))
    print(f"{jobs} jobs, {samples[-1].at:.0f} s")
    if PLOT:
        title = f"{JOBS} jobs of 2 to 5 seconds at once, then one a second"
        Path(PLOT).write_text(plot(title, samples))

"""What runs inside of the pods: the parent of a worker, the template of parsers and its forks, and what they may do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from services.retrieval.tests.documents import a_docx, a_pdf
from tests.cluster.api import await_models, client, ok
from tests.cluster.kube import RELEASE, SERVICES, kubectl, objects, wait_for
from tests.cluster.load import running_load
from tests.cluster.release import Release, add_models, helm
from tests.cluster.test_upgrade import MODELS, SETTLE_SECONDS, violated

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(900)]

PROCESSES = Path(__file__).with_name("in_pod_processes.py")
KILL = "import os, signal; os.kill({}, signal.SIGKILL)"
UNPRIVILEGED = {"CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1"}
RUNS_AS = "10001"
FILES = {
    "harbour.docx": a_docx("The harbour master of Ringsund is called Tove Quill."),
    "tariff.pdf": a_pdf("Mooring in Ringsund costs forty crowns a night."),
    "berths.csv": b"berth,depth\nNorth pier,7 metres\nSouth quay,3 metres\n",
}
QUESTIONS = {"harbour.docx": "Who is the harbour master?", "tariff.pdf": "price of mooring", "berths.csv": "South quay"}


@pytest.fixture(scope="module")
def two_workers(release: Release) -> Iterator[Release]:
    asyncio.run(add_models(release, MODELS))
    with client(release) as http:
        await_models(http, *MODELS)
    two = ("replicas=2", "autoscaling.minReplicas=2")
    helm("upgrade", release.values, *(f"--set=inference-worker.{one}" for one in two), "--wait")
    wait_for("there are two workers", 120, lambda: len(pods("inference-worker")) == 2)
    yield release
    helm("upgrade", release.values, "--wait")


def test_a_worker_whose_child_is_killed_serves_again_in_the_same_container(two_workers: Release) -> None:
    for pod in pods("inference-worker"):
        (before,) = children(pod, of="1")
        kubectl("exec", pod, "--", "python", "-c", KILL.format(before))

        def another(pod: str = pod, before: str = before) -> str:
            return next((pid for pid in children(pod, of="1") if pid != before), "")

        wait_for("the parent has forked another child", 60, another)

    with client(two_workers) as http:
        for _ in range(4):
            wait_for("a worker answers", 60, lambda: answers(http))
    with running_load(*MODELS) as load:
        time.sleep(10)  # of load
    print(load.counts, restarts())
    assert load.failures == []
    assert set(restarts().values()) == {0}
    assert asyncio.run(violated(two_workers, SETTLE_SECONDS)) == {}


def test_a_worker_that_is_told_to_end_under_load_finishes_its_calls_and_exits_in_time(two_workers: Release) -> None:
    pod = pods("inference-worker")[0]
    grace = int(kubectl("get", "pod", pod, "-o", "jsonpath={.spec.terminationGracePeriodSeconds}"))
    with running_load(*MODELS) as load:
        time.sleep(5)  # of load
        started = time.monotonic()
        kubectl("delete", "pod", pod, "--wait", seconds=grace + 60)
        seconds = time.monotonic() - started
    print(f"{seconds:.1f} s of {grace} s", load.counts)

    assert load.failures == []
    assert seconds < grace, "the signal has not reached the child"
    assert asyncio.run(violated(two_workers, SETTLE_SECONDS)) == {}


def test_documents_are_read_by_forks_of_the_template_and_found(release: Release) -> None:
    (pod,) = pods("retrieval")
    (template,) = (one for one in processes(pod) if "retrieval.parsing" in one["command"])

    with client(release) as http:
        store = ok(http.post("/v1/vector_stores", json={"name": "port"}))["id"]
        for name, content in FILES.items():
            file = ok(http.post("/v1/files", data={"purpose": "assistants"}, files={"file": (name, content)}))["id"]
            ok(http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file}))

            def indexed(file: str = file) -> Any:
                read = ok(http.get(f"/v1/vector_stores/{store}/files/{file}"))
                return read if read["status"] != "in_progress" else None

            state = wait_for(f"{name} is indexed", 60, indexed)
            assert (state["status"], state["last_error"]) == ("completed", None), name
        for name, question in QUESTIONS.items():
            found = ok(http.post(f"/v1/vector_stores/{store}/search", json={"query": question}))["data"]
            assert found[0]["filename"] == name, question

    assert template["pid"] in {one["pid"] for one in processes(pod)}, "no document ended the template"
    assert "parser_sandbox_incomplete" not in kubectl("logs", pod)


@pytest.mark.parametrize("service", SERVICES)
def test_no_process_of_a_pod_has_privileges_or_can_write_its_root(release: Release, service: str) -> None:
    for pod in pods(service):
        found = processes(pod)
        print(pod, [(one["pid"], one["parent"], one["command"][:60]) for one in found])
        assert found
        for one in found:
            assert {name: one[name] for name in UNPRIVILEGED} == UNPRIVILEGED, one
            assert one["Seccomp"] == "2", one
            assert set(one["Uid"].split()) == {RUNS_AS}, one
        assert "Read-only file system" in kubectl("exec", pod, "--", "sh", "-c", "echo x 2>&1 > /app/x || true")


def pods(service: str) -> list[str]:
    selector = f"app.kubernetes.io/name={service},app.kubernetes.io/instance={RELEASE}"
    return [
        one["metadata"]["name"]
        for one in objects("pods", "-l", selector)
        if "deletionTimestamp" not in one["metadata"]
        and all(state["ready"] for state in one["status"].get("containerStatuses", ()))
    ]


def restarts() -> dict[str, int]:
    return {
        one["metadata"]["name"]: sum(state["restartCount"] for state in one["status"]["containerStatuses"])
        for one in objects(
            "pods", "-l", f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=inference-worker"
        )
    }


def processes(pod: str) -> list[dict[str, str]]:
    """The processes of a pod but for the one that lists them."""
    found: list[dict[str, str]] = orjson.loads(kubectl("exec", pod, "--", "python", "-c", PROCESSES.read_text()))
    return found


def children(pod: str, of: str) -> list[str]:
    return [one["pid"] for one in processes(pod) if one["parent"] == of]


def answers(http: httpx.Client) -> bool:
    body = {"model": "sim-instant", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 8}
    return http.post("/v1/chat/completions", json=body).is_success

"""kubectl and helm as functions."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/argosy"
NAMESPACE = "argosy-test"
RELEASE = "argosy"
SERVICES = ("gateway", "orchestrator", "inference-worker", "metering", "retrieval")


def attempt(*command: str, stdin: str | None = None, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=seconds)


def run(*command: str, stdin: str | None = None, seconds: float = 120) -> str:
    """Run a program and return what it prints; its error is the failure of the test."""
    result = attempt(*command, stdin=stdin, seconds=seconds)
    if result.returncode:
        pytest.fail(f"{' '.join(command[:7])}: {result.stderr}{result.stdout}", pytrace=False)
    return result.stdout


def kubectl(*arguments: str, stdin: str | None = None, seconds: float = 120, namespace: str = NAMESPACE) -> str:
    return run("kubectl", "--namespace", namespace, *arguments, stdin=stdin, seconds=seconds)


def apply(*objects: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", stdin=orjson.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).decode())


def objects(kind: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(kubectl("get", kind, *arguments, "-o", "json"))["items"]
    return found


def wait_for(what: str, seconds: float, true: Callable[[], Any], interval: float = 1.0) -> Any:
    """Wait for a condition and return its value, or fail with its description."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(interval)
    return value


def has_keda() -> bool:
    return "keda.sh/v1alpha1" in kubectl("api-versions").split()


def replicas(workload: str) -> int:
    """How many replicas a Deployment is to have."""
    return int(kubectl("get", "deployment", workload, "-o", "jsonpath={.spec.replicas}"))


@contextmanager
def port_forward(target: str, port: int, namespace: str = NAMESPACE) -> Iterator[str]:
    """Forward a free port of this machine to a pod of `target`; yields its address."""
    command = ["kubectl", "--namespace", namespace, "port-forward", target, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "127.0.0.1:" in line, "kubectl port-forward has not started"
            yield f"http://127.0.0.1:{line.split('127.0.0.1:')[1].split()[0]}"
        finally:
            process.terminate()

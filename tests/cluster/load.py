"""The load of `in_cluster_load.py` in a pod, and what it saw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.cluster.kube import NAMESPACE, RELEASE, apply, kubectl, wait_for
from tests.cluster.release import IMAGE

SCRIPT = Path(__file__).with_name("in_cluster_load.py")
POD = "load"
STREAMS, RATE = 20, 20


@dataclass
class Report:
    """What the calls came to."""

    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def failures(self) -> list[dict[str, Any]]:
        return list(self.counts["failures"])


@contextmanager
def running_load(streamed_model: str, plain_model: str) -> Iterator[Report]:
    """Run streams and requests until the block ends; the report is filled in then."""
    kubectl("delete", "pod", POD, "--ignore-not-found", "--wait")
    apply(_pod(streamed_model, plain_model))
    report = Report()
    try:
        kubectl("wait", f"pod/{POD}", "--for=jsonpath={.status.phase}=Running", "--timeout=60s")
        yield report
        # A process of its own in the container, since a deleted pod keeps no log.
        kubectl("exec", POD, "--", "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        wait_for("the load has ended", 90, lambda: _phase() == "Succeeded")
        report.counts = orjson.loads(kubectl("logs", POD).strip().splitlines()[-1])
    finally:
        kubectl("delete", "pod", POD, "--ignore-not-found", "--wait=false")


def _phase() -> str:
    return kubectl("get", "pod", POD, "-o", "jsonpath={.status.phase}")


def _pod(streamed_model: str, plain_model: str) -> dict[str, Any]:
    environment = {
        "TARGET_HOST": f"{RELEASE}-gateway",
        "TARGET_PORT": "8080",
        "STREAMS": str(STREAMS),
        "RATE": str(RATE),
        "STREAMED_MODEL": streamed_model,
        "PLAIN_MODEL": plain_model,
    }
    key = {"name": "ARGOSY_API_KEY", "valueFrom": {"secretKeyRef": {"name": RELEASE, "key": "api-key"}}}
    container = {
        "name": "load",
        "image": f"{IMAGE['prefix']}/gateway:{IMAGE['tag']}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", SCRIPT.read_text()],
        "env": [key, *({"name": name, "value": value} for name, value in environment.items())],
        "resources": {"requests": {"cpu": "10m"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": NAMESPACE}, "spec": spec}

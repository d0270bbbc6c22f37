"""A release of the charts on the cluster that kubectl points at, with stores that its pods can reach."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cluster.kube import NAMESPACE, RELEASE, kubectl
from tests.cluster.release import Release, install, seeded

STORES = {
    "TESTS_CLUSTER_POSTGRES_DSN": "connection URL of a Postgres superuser",
    "TESTS_CLUSTER_REDIS_URL": "URL of a Redis",
    "TESTS_CLUSTER_KAFKA": "bootstrap brokers of a Kafka",
    "TESTS_CLUSTER_MODEL_URL": "address of SmolLM2 behind an OpenAI-shaped API",
    "TESTS_CLUSTER_EMBEDDINGS_URL": "address of MiniLM behind an OpenAI-shaped API",
    "TESTS_CLUSTER_SIMULATOR_URL": "address of tests/simulators/upstream.py",
}


@pytest.fixture(scope="session")
def cluster() -> None:
    """Skip without a tool or a cluster, and in runs that were not meant for it: kubectl may point anywhere."""
    if not os.environ.get("TESTS_CLUSTER"):
        pytest.skip("`make test-cluster` runs these")
    for tool in ("kubectl", "helm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on PATH")
    if subprocess.run(["kubectl", "version", "--request-timeout=5s"], capture_output=True, check=False).returncode:
        pytest.skip("no cluster answers kubectl")


@pytest.fixture(scope="session")
def stores(cluster: None) -> Iterator[dict[str, str]]:
    """Addresses of the stores: those of the environment, or of stores that are started on this machine."""
    if all(os.environ.get(name) for name in STORES):
        yield {name: os.environ[name] for name in STORES}
        return
    host = os.environ.get("TESTS_CLUSTER_HOST") or kubectl(
        "get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    )
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except OSError:
        names = ", ".join(f"{name} ({meaning})" for name, meaning in STORES.items())
        pytest.skip(
            f"pods need stores that they can reach: set TESTS_CLUSTER_HOST to an address of this machine, or {names}"
        )
    command = [sys.executable, "-m", "tests.cluster.stores", host]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def release(stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Install into a namespace whose pods must be `restricted`, and remove it at the end."""
    installed = install(stores, tmp_path_factory.mktemp("values"))
    try:
        yield seeded(installed)
    finally:
        if not os.environ.get("TESTS_CLUSTER_KEEP"):
            subprocess.run(["helm", "uninstall", RELEASE, "--namespace", NAMESPACE], capture_output=True, check=False)
            kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", seconds=150)

"""The environment of the test fleet: a fleet of its own beside yours, in `.argosy/test`.

It has its own ports, Postgres, Redis and Kafka, so that tests may kill any part of it, shorter time-outs, and two more
upstreams: a simulator that fails on demand, and a provider that keeps a journal of its calls.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from argosy_dev.fleet.paths import FleetPaths, write_text
from argosy_dev.fleet.ports import assign

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".argosy" / "test"
OVERLAP_MODEL = STATE / "models" / "overlap"
"""A cross-encoder whose score is the words in common."""
PATHS = FleetPaths(root=STATE, assets=ROOT / ".argosy")
SERVICE_PREFIXES = ("GATEWAY", "ORCHESTRATOR", "INFERENCE_WORKER", "METERING", "RETRIEVAL")
REPLICAS = "orchestrator=2,inference-worker=2,metering=2"
"""The second processes start when a test asks for them."""
SHORT_TIMES = {
    "GATEWAY_LIMITS__DEADLINE": "20",
    "ORCHESTRATOR_TIMEOUTS__FIRST_BYTE": "15",
    "ORCHESTRATOR_TIMEOUTS__NON_STREAMED": "15",
    "ORCHESTRATOR_TIMEOUTS__ABORT": "5",
    "ORCHESTRATOR_RESERVATION_LEASE": "3",
    "ORCHESTRATOR_ROUTES_POLL_INTERVAL": "0.5",
    "METERING_PRICES_TTL": "0.5",
    "METERING_SWEEPER__INTERVAL": "1",
    "ORCHESTRATOR_JOBS__PLANS": json.dumps(
        {"drill": {"lane": "interactive", "pool": "drill"}, "idle": {"pool": "idle"}}  # the pool `idle` has no workers
    ),
}
MODEL_WITHOUT_ROUTE = "embeddings-without-a-route"
FURTHER_MODELS = {"RETRIEVAL_EMBEDDING__MODELS": json.dumps({MODEL_WITHOUT_ROUTE: 8})}
"""Vector stores may be migrated to it, but nothing answers."""
RERANKERS = {"cohere": "/v2", "jina": "/v1", "voyage": "/v1", "tei": ""}
"""Kinds of upstreams that only score documents, and the path of their addresses."""
RERANKER = "overlap"
RERANKING = {"RETRIEVAL_RERANK__MODEL": RERANKER, "RETRIEVAL_RERANK__TIMEOUT": "30"}
"""Its route is made by the tests that need it; the model is made by `write_models`."""
SHORT_JOB_TIMES = {
    "ORCHESTRATOR_JOBS__LEASE": "6",
    "ORCHESTRATOR_JOBS__REAP_INTERVAL": "1",
    "ORCHESTRATOR_JOBS__CLAIM_WITHIN": "12",
}
"""Not in the long form of the drills, which shows what the times of an installation lead to."""

DRILL_WORKERS = tuple(f"drill-worker-{number}" for number in range(1, 5))
"""Inference workers that a drill starts and kills."""
DRILL_ORCHESTRATORS = ("drill-orchestrator-1", "drill-orchestrator-2")
DRILL_POOL = "drill"
"""The pool of these workers, and the plan of tenants whose jobs they run."""
HARNESS_PARTS = (
    *("simulator", "otlp", "journaled", "chaos-gateway", "chaos-gateway-ops"),
    *("attacked-gateway", "attacked-gateway-ops"),
    *("drill-gateway", "drill-gateway-ops"),
    *(f"{name}-{port}" for name in (*DRILL_WORKERS, *DRILL_ORCHESTRATORS) for port in ("grpc", "ops")),
)


def harness_ports() -> dict[str, int]:
    """Return the ports of what tests start beside the fleet; chosen once, though test workers ask concurrently."""
    path = STATE / "harness.json"
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "harness.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assigned: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        ports = assign(HARNESS_PARTS, assigned)
        if ports != assigned:
            write_text(path, json.dumps(ports))
    return ports


def environment() -> dict[str, str]:
    """Return the environment of all commands on the test fleet."""
    ports = harness_ports()
    upstreams: dict[str, dict[str, Any]] = {
        name: {"kind": "openai", "base_url": f"http://127.0.0.1:{ports[name]}/v1", "api_key": "sim"}
        for name in ("simulator", "journaled")
    }
    # The simulator once more, by Anthropic's Messages API.
    messages = {"kind": "anthropic", "base_url": f"http://127.0.0.1:{ports['simulator']}", "api_key": "sim"}
    upstreams["simulator-messages"] = messages
    # A reranker in the process of the worker, which `write_models` makes.
    upstreams["overlap"] = {"kind": "onnx_reranker", "path": str(OVERLAP_MODEL), "max_tokens": 128}
    # Rerankers of providers: the simulator answers as each of them, by the path or by the model's name.
    for kind, path in RERANKERS.items():
        address = f"http://127.0.0.1:{ports['simulator']}{path}"
        upstreams[f"simulator-{kind}"] = {"kind": kind, "base_url": address, "api_key": "sim"}
    # Both, with a prompt cache that no tenant shares: what it read and wrote is billed, and shown.
    for name in ("simulator", "simulator-messages"):
        upstreams[f"{name}-own"] = {**upstreams[name], "shares_prompt_cache": False}
    # The shell may have read `.argosy/env`: those stores are not for tests.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ARGOSY_")}
    fleet = {
        "ARGOSY_HOME": str(STATE),
        "ARGOSY_UPSTREAMS": json.dumps(upstreams),
        "ARGOSY_REPLICAS": REPLICAS,
    }
    if inherited.get("TESTS_QUIET"):
        fleet["ARGOSY_DRAIN_SECONDS"] = "25"  # as of an installation
    # At 500 requests a second, writing every log line and every trace would be the load.
    if not inherited.get("TESTS_QUIET"):
        fleet["ARGOSY_OTLP_ENDPOINT"] = f"http://127.0.0.1:{ports['otlp']}"
        fleet |= {f"{prefix}_TELEMETRY__LOG_LEVEL": "debug" for prefix in SERVICE_PREFIXES} | SHORT_JOB_TIMES
    return inherited | SHORT_TIMES | FURTHER_MODELS | RERANKING | fleet

"""Flame graphs of services at saturation: `make flame s=gateway`, or s=all.

Starts a fleet of its own, drives the load itself, and records with py-spy what a service does meanwhile. Retrieval
takes no part in a plain request: it is recorded while every request asks for passages.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
from argosy_dev.commands import sample_document

from tests.fleet.environment import ROOT
from tests.load import environments, scenarios, targets
from tests.load.bench import log, warm
from tests.load.bench_fleet import STATE, BenchFleet, bench_fleet, end
from tests.load.scenarios import Scenario
from tests.load.watch import SERVICES

_MARGIN_SECONDS = 3.0
_SAMPLES_PER_SECOND = 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("service", choices=[*SERVICES, "all"])
    parser.add_argument("--seconds", type=int, default=10, help="how long to record (10)")
    parser.add_argument("--streamed", action="store_true", help="streamed answers instead of whole ones")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "benchmarks", help="where flame-*.svg go")
    options = parser.parse_args()
    spy = environments.program("py-spy", "py-spy")
    options.folder.mkdir(parents=True, exist_ok=True)
    with bench_fleet() as bench:
        warm([targets.fleet(bench)], bench)
        for service in SERVICES if options.service == "all" else (options.service,):
            load = Scenario("flame", "", streamed=options.streamed, seconds=options.seconds + _MARGIN_SECONDS)
            name = f"flame-{service}{'-streams' if options.streamed else ''}.svg"
            record(spy, service, load, bench, options.folder / name)
            log(f"written to {options.folder / name}")


def record(spy: Path, service: str, load: Scenario, bench: BenchFleet, out: Path) -> None:
    """Record the first replica of one service under load."""
    body = bench.body(load.mode, streamed=load.streamed)
    if service == "retrieval":
        body = _asking_for_passages(bench, body)
    plan = replace(scenarios.plan_of(load, targets.fleet(bench), bench), body=str(body))
    pid = next(group.pids[0] for group in bench.groups() if group.name == service)
    generator = scenarios.start_generator(plan, bench)
    try:
        time.sleep(1)
        # Only threads with the GIL: py-spy counts gRPC's poller thread, which sleeps in C, as busy.
        seconds = str(int(load.seconds - _MARGIN_SECONDS))
        done = subprocess.run(
            [spy, "record", "--pid", str(pid), "--duration", seconds, "--rate", str(_SAMPLES_PER_SECOND),
             "--gil", "--function", "--output", out],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"flame: py-spy failed (it needs the right to trace processes):\n{done.stderr}")
        out.write_text(out.read_text().replace(f"{ROOT}/", ""))  # it contains the command, with the clone's folder
    finally:
        end(generator)


def _asking_for_passages(bench: BenchFleet, body: Path) -> Path:
    """Index the demo's document, and return a request with retrieval."""
    headers = {"authorization": f"Bearer {bench.api_key}"}
    with httpx.Client(base_url=f"{bench.base_url}/v1", headers=headers, timeout=60) as client:
        content = {"file": ("guide.md", sample_document.SOURCE.read_bytes())}
        file = client.post("/files", files=content, data={"purpose": "assistants"}).raise_for_status().json()["id"]
        store = client.post("/vector_stores", json={"name": "flame"}).raise_for_status().json()["id"]
        client.post(f"/vector_stores/{store}/files", json={"file_id": file}).raise_for_status()
        while (request := client.get(f"/vector_stores/{store}/files/{file}").json())["status"] == "in_progress":
            time.sleep(0.2)
    if request["status"] != "completed":
        raise SystemExit(f"flame: the document was not indexed: {request}")
    asked = json.loads(body.read_bytes()) | {"argosy": {"retrieval": {"vector_store_ids": [store], "query": "keys"}}}
    path = STATE / "body-passages.json"
    path.write_text(json.dumps(asked))
    return path


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

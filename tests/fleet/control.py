"""Starts and stops the test fleet and the simulator of upstreams."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
from argosy_dev.fleet.paths import read_pairs, write_text
from argosy_dev.fleet.process_identity import ProcessIdentity, stop_processes
from argosy_dev.fleet.state import read_state

from tests.fleet.environment import DRILL_POOL, OVERLAP_MODEL, PATHS, ROOT, STATE, environment, harness_ports

FIRST_REPLICAS = ("keys", "model", "gateway", "orchestrator", "inference-worker", "metering", "retrieval")
SECOND_REPLICAS = ("orchestrator-2", "inference-worker-2", "metering-2")
SIMULATOR = ROOT / "tests/simulators/upstream.py"
SIMULATOR_PROCESS = STATE / "simulator.json"


def control(*arguments: str) -> None:
    """Run a command of `argosy_dev` on the test fleet."""
    PATHS.create()
    write_models()
    subprocess.run([sys.executable, "-m", "argosy_dev", *arguments], env=environment(), check=True, timeout=300)


def write_models() -> None:
    """Write the models that only tests have, if they are missing: workers do not start without them."""
    if (OVERLAP_MODEL / "model.onnx").exists():
        return
    from tests.simulators.cross_encoders import write_overlap

    with TemporaryDirectory(dir=STATE) as made:
        folder = write_overlap(Path(made) / "overlap")
        OVERLAP_MODEL.parent.mkdir(exist_ok=True)
        # Another test process may have been first.
        with suppress(OSError):
            folder.rename(OVERLAP_MODEL)


def start(parts: tuple[str, ...] = FIRST_REPLICAS) -> None:
    """Start the parts that do not run yet, with their dependencies."""
    control("up", "--only", ",".join(parts))


def start_simulator() -> None:
    """Start the simulator unless it runs; all test processes share it, and `stop` ends it."""
    PATHS.create()
    with (STATE / "simulator.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        port = harness_ports()["simulator"]
        if _answers(port):
            return
        log = PATHS.open_log("simulator")
        # posix_spawn, because subprocess would warn that the simulator outlives this process.
        arguments = [sys.executable, str(SIMULATOR), "--port", str(port)]
        redirect = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        pid = os.posix_spawn(sys.executable, arguments, os.environ, file_actions=redirect, setsid=True)
        os.close(log)
        write_text(SIMULATOR_PROCESS, json.dumps(asdict(ProcessIdentity.of(pid))))
        deadline = time.monotonic() + 20
        while not _answers(port):
            if time.monotonic() > deadline:
                raise TimeoutError("the simulator does not answer")
            time.sleep(0.1)


def provision_drill_topics() -> None:
    """Create all topics that are missing, those of the drills' pool too. Raises CalledProcessError without Kafka."""
    kafka = {"ARGOSY_KAFKA_BOOTSTRAP": read_pairs(PATHS.env)["ARGOSY_KAFKA_BOOTSTRAP"]}
    command = [sys.executable, "-m", "argosy_dev", "provision-topics", "--pool", DRILL_POOL]
    subprocess.run(command, env=environment() | kafka, check=True, timeout=300)


def lose_kafka_data() -> None:
    """Kill Kafka and delete what it stores, before it is started again; then create the topics."""
    kafka = read_state(PATHS).parts["kafka"].process
    assert kafka is not None
    process = psutil.Process(kafka.pid)
    supervisor = process.parent()
    assert supervisor is not None
    supervisor.suspend()
    try:
        for one in (*process.children(recursive=True), process):
            one.kill()
        deadline = time.monotonic() + 30
        while process.status() != psutil.STATUS_ZOMBIE:  # its parent is suspended, and reaps it later
            assert time.monotonic() < deadline, "Kafka does not end"
            time.sleep(0.05)
        shutil.rmtree(PATHS.data("kafka") / "log")
    finally:
        supervisor.resume()
    deadline = time.monotonic() + 120
    while True:  # until the broker serves
        try:
            return provision_drill_topics()
        except subprocess.CalledProcessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def stop() -> None:
    """Stop the simulator and the fleet."""
    if SIMULATOR_PROCESS.exists():
        process = ProcessIdentity.from_json(json.loads(SIMULATOR_PROCESS.read_text()))
        stop_processes({process: signal.SIGTERM}, grace_seconds=5)
        SIMULATOR_PROCESS.unlink()
    control("down")


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/simulator", timeout=1).status_code == 200
    except httpx.TransportError:
        return False

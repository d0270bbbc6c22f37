"""A Kafka of a test's own that wants TLS and a user, as managed services do."""

from __future__ import annotations

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.parts.kafka import kafka_spec, server_properties
from chassis.testing import free_port

from libs.chassis.tests.certificates import Authority
from libs.chassis.tests.own_servers import serving

USER, PASSWORD = "argosy", "a-password-of-tests"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@contextmanager
def kafka_with_sasl(folder: Path, authority: Authority) -> Iterator[int]:
    """Run a broker whose port offers SASL_SSL with PLAIN and SCRAM-SHA-512 alone; yields the port."""
    port, controller, internal = free_port(), free_port(), free_port()
    paths = FleetPaths(root=folder, assets=FleetPaths.from_environment().assets)
    program = list(kafka_spec(paths, port, controller).command())[:-2]
    settings = folder / "server.properties"
    certificate, key = authority.server("127.0.0.1")
    (folder / "keystore.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
    changed = {
        "listeners": f"SASL_SSL://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"SASL_SSL://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INTERNAL",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "keystore.pem"),
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{_PLAIN} required user_{USER}="{PASSWORD}";',
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
    }
    # The last of two lines with one name counts.
    lines = "".join(f"{name}={value}\n" for name, value in changed.items())
    settings.write_text(server_properties(folder / "log", port, controller) + lines)
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = ["kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}", "-c", str(settings)]
    scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    subprocess.run([*program, *tool, "--add-scram", scram], check=True, timeout=300)
    with serving([*program, "kafka.Kafka", str(settings)], port, folder / "kafka.log"):
        yield port

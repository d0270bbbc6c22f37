from __future__ import annotations

import json
from pathlib import Path

import pytest
from argosy_dev.errors import CliError
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.parts import kafka, kafka_access
from argosy_dev.parts.build import build_fleet, environment_overrides
from chassis.kafka import client_options

SASL = {
    "ARGOSY_KAFKA_BOOTSTRAP": "kafka.example.com:9094",
    "ARGOSY_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "ARGOSY_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "ARGOSY_KAFKA_SASL_USERNAME": "argosy",
    "ARGOSY_KAFKA_SASL_PASSWORD": 'a"b\\c=ä',
}


def test_the_environment_becomes_the_options_of_the_client() -> None:
    options = client_options(kafka_access.connection(SASL))

    assert options.pop("ssl_context").check_hostname
    assert options == {
        "bootstrap_servers": "kafka.example.com:9094",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "argosy",
        "sasl_plain_password": 'a"b\\c=ä',
    }


def test_without_variables_the_connection_is_plain() -> None:
    plain = kafka_access.connection({"ARGOSY_KAFKA_BOOTSTRAP": "127.0.0.1:9092"})

    assert client_options(plain) == {"bootstrap_servers": "127.0.0.1:9092", "security_protocol": "PLAINTEXT"}
    assert kafka_access.client_properties(plain) == "security.protocol=PLAINTEXT\n"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ARGOSY_KAFKA_SASL_PASSWORD": ""}, "ARGOSY_KAFKA_SASL_PASSWORD: is required when security_protocol is"),
        ({"ARGOSY_KAFKA_SECURITY_PROTOCOL": "SSL"}, "ARGOSY_KAFKA_SASL_MECHANISM: has no effect while"),
        ({"ARGOSY_KAFKA_SASL_MECHANISM": "GSSAPI"}, "ARGOSY_KAFKA_SASL_MECHANISM: Input should be 'PLAIN'"),
        ({"ARGOSY_KAFKA_CA_FILE": "/nowhere.pem"}, "ARGOSY_KAFKA_CA_FILE: has no certificates that can be read"),
        ({"ARGOSY_KAFKA_BOOTSTRAP": "kafka"}, "ARGOSY_KAFKA_BOOTSTRAP: "),
    ],
)
def test_what_is_wrong_names_its_variable_and_no_secret(changed: dict[str, str], message: str) -> None:
    with pytest.raises(CliError) as caught:
        kafka_access.connection(SASL | changed)

    assert str(caught.value).startswith(message)
    assert SASL["ARGOSY_KAFKA_SASL_PASSWORD"] not in str(caught.value)


def test_kafkas_own_tools_get_the_same_with_quotes_of_jaas_in_a_file_of_properties() -> None:
    text = kafka_access.client_properties(kafka_access.connection(SASL))

    assert text.splitlines() == [
        "security.protocol=SASL_SSL",
        "sasl.mechanism=SCRAM-SHA-512",
        (
            "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
            'username="argosy" password="a\\\\"b\\\\\\\\c=\\u00e4";'
        ),
    ]


def test_the_topics_step_of_a_fleet_on_the_users_kafka_authenticates(paths: FleetPaths) -> None:
    fleet = build_fleet(paths, environment_overrides(paths, SASL))

    assert "kafka" not in fleet.specs
    assert fleet.specs["topics"].environment().items() >= SASL.items()


def test_a_wrong_variable_stops_the_command_before_a_part_starts(paths: FleetPaths) -> None:
    with pytest.raises(CliError, match="ARGOSY_KAFKA_SASL_MECHANISM"):
        build_fleet(paths, SASL | {"ARGOSY_KAFKA_SASL_MECHANISM": "NTLM"})


def test_the_variables_become_settings_of_each_service() -> None:
    settings = kafka_access.service_settings(SASL)

    assert settings == {
        "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA__SASL_USERNAME": "argosy",
        "KAFKA__SASL_PASSWORD": 'a"b\\c=ä',
    }


def test_the_console_consumer_reads_its_password_from_a_file_of_its_own(
    paths: FleetPaths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"

    class Done:
        returncode = 3

    def run(command: list[str], *, check: bool) -> Done:
        properties = Path(command[command.index("--consumer.config") + 1])
        seen.write_text(json.dumps([properties.stat().st_mode & 0o777, properties.read_text(), command[-2:]]))
        return Done()

    monkeypatch.setattr(kafka, "_missing", lambda _: None)
    monkeypatch.setattr("argosy_dev.parts.kafka.subprocess.run", run)

    assert kafka.console_consumer(paths, kafka_access.connection(SASL), ["--topic", "t"]) == 3
    mode, properties, arguments = json.loads(seen.read_text())
    assert (mode, arguments) == (0o600, ["--topic", "t"])
    assert "sasl.jaas.config" in properties

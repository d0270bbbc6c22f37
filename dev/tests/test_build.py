from __future__ import annotations

import importlib
import json

import pytest
from argosy_dev.errors import CliError
from argosy_dev.fleet import secrets
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.parts import build
from argosy_dev.parts.build import build_fleet, environment_overrides, parse_endpoint
from argosy_dev.parts.replicas import SERVICES
from chassis.settings import load

OWN_POSTGRES = {"ARGOSY_POSTGRES_DSN": "postgresql://me:secret@db.example:5432/ours"}


@pytest.fixture
def paths(paths: FleetPaths) -> FleetPaths:
    """Paths of a fleet whose schemas exist."""
    for service in SERVICES:
        secrets.save(paths, {service.dsn: "postgresql://app@127.0.0.1:1/argosy"})
        secrets.save(paths, {service.owner_dsn: "postgresql://owner@127.0.0.1:1/argosy"})
    return paths


def test_every_dependency_is_a_part(paths: FleetPaths) -> None:
    parts = build_fleet(paths, {}).specs

    assert {need for part in parts.values() for need in part.needs} <= parts.keys()


def test_no_two_parts_share_a_port(paths: FleetPaths) -> None:
    numbers = [port for part in build_fleet(paths, {}).specs.values() for port in part.ports.values()]

    assert len(set(numbers)) == len(numbers)


def test_the_dependencies_of_a_service_come_first(paths: FleetPaths) -> None:
    names = build_fleet(paths, {}).with_dependencies(("metering",))

    assert names.index("postgres") < names.index("schemas") < names.index("metering-migrate")
    assert names.index("metering-migrate") < names.index("metering-seed")
    assert names[-1] == "metering"
    assert "gateway" not in names


def test_no_names_mean_every_part(paths: FleetPaths) -> None:
    fleet = build_fleet(paths, {})

    assert set(fleet.with_dependencies(())) == fleet.specs.keys()


def test_an_unknown_part_is_an_error_that_names_the_parts(paths: FleetPaths) -> None:
    with pytest.raises(CliError, match=r"no part 'mysql'; the parts are postgres, redis"):
        build_fleet(paths, {}).with_dependencies(("mysql",))


def test_a_store_of_the_user_replaces_ours(paths: FleetPaths) -> None:
    fleet = build_fleet(paths, OWN_POSTGRES)

    assert "postgres" not in fleet.specs
    assert fleet.specs["schemas"].needs == ()
    assert fleet.addresses["ARGOSY_POSTGRES_DSN"] == OWN_POSTGRES["ARGOSY_POSTGRES_DSN"]
    assert fleet.with_dependencies(("postgres",)) == ()


def test_an_upstream_named_local_replaces_our_model(paths: FleetPaths) -> None:
    mine = {"local": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}}
    fleet = build_fleet(paths, {build.UPSTREAMS: json.dumps(mine)})

    upstreams = json.loads(fleet.specs["inference-worker"].environment()["INFERENCE_WORKER_UPSTREAMS"])
    assert "model" not in fleet.specs
    assert upstreams["local"] == mine["local"]
    assert set(upstreams) == {"local", "minilm"}


@pytest.mark.parametrize("value", ["{", "[]", '{"local": 1}'])
def test_upstreams_must_be_an_object_of_objects(paths: FleetPaths, value: str) -> None:
    with pytest.raises(CliError, match="ARGOSY_UPSTREAMS"):
        build_fleet(paths, {build.UPSTREAMS: value})


def test_the_environment_replaces_parts_but_our_own_addresses_do_not(paths: FleetPaths) -> None:
    own = build_fleet(paths, {}).addresses

    assert environment_overrides(paths, dict(own)) == {}
    assert environment_overrides(paths, {**own, **OWN_POSTGRES, "HOME": "/"}) == OWN_POSTGRES


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("postgresql://a:b@db:5432/argosy", ("db", 5432)),
        ("redis://127.0.0.1:6379/0", ("127.0.0.1", 6379)),
        ("broker1:9092,broker2:9092", ("broker1", 9092)),
        ("[::1]:9092", ("::1", 9092)),
    ],
)
def test_an_address_is_parsed_into_host_and_port(address: str, found: tuple[str, int]) -> None:
    assert parse_endpoint("X", address) == found


@pytest.mark.parametrize("address", ["", "db", "db:", "db:port", "redis://db"])
def test_an_address_without_a_port_is_an_error_that_names_the_variable(address: str) -> None:
    with pytest.raises(CliError, match="ARGOSY_REDIS_URL"):
        parse_endpoint("ARGOSY_REDIS_URL", address)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_each_service_accepts_its_settings(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch, service: object) -> None:
    assert isinstance(service, type(SERVICES[0]))
    fleet = build_fleet(paths, {build.OTLP_ENDPOINT: "http://127.0.0.1:4317"})
    for name, value in fleet.specs[service.name].environment().items():
        monkeypatch.setenv(name, value)

    loaded = load(importlib.import_module(f"{service.module}.settings").Settings)  # exits on an unknown setting

    assert loaded.ops.port == fleet.specs[service.name].ports[f"{service.name}-ops"]
    assert loaded.telemetry.otlp_endpoint == "http://127.0.0.1:4317"


def test_only_migrations_and_seeds_have_the_owners_address(paths: FleetPaths) -> None:
    parts = build_fleet(paths, {}).specs

    assert "METERING_POSTGRES__OWNER_DSN" in parts["metering-migrate"].environment()
    assert "METERING_POSTGRES__OWNER_DSN" not in parts["metering"].environment()


def test_services_share_one_permanent_secret(paths: FleetPaths) -> None:
    parts = build_fleet(paths, {}).specs
    signed = parts["gateway"].environment()["GATEWAY_PRINCIPAL__SECRETS"]

    assert len(signed) >= 32
    assert parts["metering"].environment()["METERING_PRINCIPAL__SECRETS"] == signed
    assert build_fleet(paths, {}).specs["gateway"].environment()["GATEWAY_PRINCIPAL__SECRETS"] == signed


TWICE = {build.REPLICAS: "orchestrator=2, inference-worker=2,metering=2"}


def test_replicas_have_ports_of_their_own_and_the_settings_of_their_service(paths: FleetPaths) -> None:
    parts = build_fleet(paths, TWICE).specs
    one, two = parts["orchestrator"], parts["orchestrator-2"]
    settings = {name: (value, two.environment()[name]) for name, value in one.environment().items()}

    assert {name for name, (mine, other) in settings.items() if mine != other} == {
        "ORCHESTRATOR_GRPC__BIND",
        "ORCHESTRATOR_OPS__PORT",
    }
    assert settings["ORCHESTRATOR_OPS__PORT"][1] == str(two.ports["orchestrator-2-ops"])
    assert two.needs == one.needs
    assert not set(one.ports.values()) & set(two.ports.values())


def test_peers_get_the_addresses_of_every_replica(paths: FleetPaths) -> None:
    parts = build_fleet(paths, TWICE).specs

    targets = parts["gateway"].environment()["GATEWAY_PEERS__ORCHESTRATOR"]
    assert targets == ",".join(
        parts[name].environment()["ORCHESTRATOR_GRPC__BIND"] for name in ("orchestrator", "orchestrator-2")
    )
    assert "," not in parts["gateway"].environment()["GATEWAY_PEERS__RETRIEVAL"]
    assert parts["orchestrator"].environment()["ORCHESTRATOR_PEERS__INFERENCE_WORKER"].count(",") == 1


def test_without_replicas_each_service_has_one_process_at_its_former_ports(paths: FleetPaths) -> None:
    before = build_fleet(paths, {})
    twice = build_fleet(paths, TWICE)

    assert {name: part.ports for name, part in before.specs.items()}.items() <= {
        name: part.ports for name, part in twice.specs.items()
    }.items()
    assert build_fleet(paths, {}).specs.keys() == before.specs.keys()
    assert twice.specs.keys() - before.specs.keys() == {"orchestrator-2", "inference-worker-2", "metering-2"}


@pytest.mark.parametrize(
    "value", ["gateway=2", "orchestrator", "orchestrator=0", "orchestrator=10", "orchestrator=two", "mysql=2", "=2"]
)
def test_an_invalid_number_of_replicas_is_an_error(paths: FleetPaths, value: str) -> None:
    with pytest.raises(CliError, match=f"ARGOSY_REPLICAS has '{value}' where SERVICE=COUNT belongs"):
        build_fleet(paths, {build.REPLICAS: value})


def test_a_service_that_is_stopped_has_the_seconds_that_were_asked_for(paths: FleetPaths) -> None:
    part = build_fleet(paths, {build.DRAIN_SECONDS: "25"}).specs["orchestrator"]

    assert part.environment()["ORCHESTRATOR_DRAIN"] == "PT25S"
    assert part.grace_seconds > 25


@pytest.mark.parametrize("value", ["0", "301", "-1", "8.5", "soon"])
def test_an_invalid_drain_is_an_error(paths: FleetPaths, value: str) -> None:
    with pytest.raises(CliError, match=f"ARGOSY_DRAIN_SECONDS is '{value}' where whole seconds"):
        build_fleet(paths, {build.DRAIN_SECONDS: value})

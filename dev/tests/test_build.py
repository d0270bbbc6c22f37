from __future__ import annotations

import importlib
import json

import pytest
from argosy_dev import fleet, secrets
from argosy_dev.fleet import compose, endpoint, replaced
from argosy_dev.refusals import Refusal
from argosy_dev.services import SERVICES
from argosy_dev.state import Home
from chassis.settings import load

OWN_POSTGRES = {"ARGOSY_POSTGRES_DSN": "postgresql://me:secret@db.example:5432/ours"}


@pytest.fixture
def home(home: Home) -> Home:
    """A home whose schemas have addresses, as after the step that makes them."""
    for service in SERVICES:
        secrets.keep(home, {service.dsn: "postgresql://app@127.0.0.1:1/argosy"})
        secrets.keep(home, {service.owner_dsn: "postgresql://owner@127.0.0.1:1/argosy"})
    return home


def test_every_need_of_a_part_is_a_part(home: Home) -> None:
    parts = compose(home, {}).parts

    assert {need for part in parts.values() for need in part.needs} <= parts.keys()


def test_no_two_parts_share_a_port(home: Home) -> None:
    numbers = [port for part in compose(home, {}).parts.values() for port in part.ports.values()]

    assert len(set(numbers)) == len(numbers)


def test_asking_for_a_service_asks_for_what_it_needs_first(home: Home) -> None:
    wanted = compose(home, {}).closure(("metering",))

    assert wanted.index("postgres") < wanted.index("schemas") < wanted.index("metering-migrate")
    assert wanted[-1] == "metering"
    assert "gateway" not in wanted


def test_asking_for_nothing_asks_for_everything(home: Home) -> None:
    composed = compose(home, {})

    assert set(composed.closure(())) == composed.parts.keys()


def test_an_unknown_part_is_refused_with_the_known_ones(home: Home) -> None:
    with pytest.raises(Refusal, match=r"no part 'mysql'; the parts are postgres, redis"):
        compose(home, {}).closure(("mysql",))


def test_a_store_of_the_user_takes_the_place_of_ours(home: Home) -> None:
    composed = compose(home, OWN_POSTGRES)

    assert "postgres" not in composed.parts
    assert composed.parts["schemas"].needs == ()
    assert composed.addresses["ARGOSY_POSTGRES_DSN"] == OWN_POSTGRES["ARGOSY_POSTGRES_DSN"]
    assert composed.closure(("postgres",)) == ()


def test_an_upstream_called_local_takes_the_place_of_our_model(home: Home) -> None:
    mine = {"local": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}}
    composed = compose(home, {fleet.UPSTREAMS: json.dumps(mine)})

    upstreams = json.loads(composed.parts["inference-worker"].environment()["INFERENCE_WORKER_UPSTREAMS"])
    assert "model" not in composed.parts
    assert upstreams["local"] == mine["local"]
    assert set(upstreams) == {"local", "minilm"}


@pytest.mark.parametrize("value", ["{", "[]", '{"local": 1}'])
def test_upstreams_that_are_no_object_of_objects_are_refused(home: Home, value: str) -> None:
    with pytest.raises(Refusal, match="ARGOSY_UPSTREAMS"):
        compose(home, {fleet.UPSTREAMS: value})


def test_the_environment_replaces_parts_but_our_own_addresses_do_not(home: Home) -> None:
    own = compose(home, {}).addresses

    assert replaced(home, dict(own)) == {}
    assert replaced(home, {**own, **OWN_POSTGRES, "HOME": "/"}) == OWN_POSTGRES


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("postgresql://a:b@db:5432/argosy", ("db", 5432)),
        ("redis://127.0.0.1:6379/0", ("127.0.0.1", 6379)),
        ("broker1:9092,broker2:9092", ("broker1", 9092)),
        ("[::1]:9092", ("::1", 9092)),
    ],
)
def test_addresses_of_every_shape_have_a_host_and_a_port(address: str, found: tuple[str, int]) -> None:
    assert endpoint("X", address) == found


@pytest.mark.parametrize("address", ["", "db", "db:", "db:port", "redis://db"])
def test_an_address_without_a_port_is_refused_by_its_variable(address: str) -> None:
    with pytest.raises(Refusal, match="ARGOSY_REDIS_URL"):
        endpoint("ARGOSY_REDIS_URL", address)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_each_service_accepts_the_settings_it_is_given(
    home: Home, monkeypatch: pytest.MonkeyPatch, service: object
) -> None:
    assert isinstance(service, type(SERVICES[0]))
    composed = compose(home, {fleet.OTLP_ENDPOINT: "http://127.0.0.1:4317"})
    for name, value in composed.parts[service.name].environment().items():
        monkeypatch.setenv(name, value)

    loaded = load(importlib.import_module(f"{service.module}.settings").Settings)  # exits at what it does not know

    assert loaded.ops.port == composed.parts[service.name].ports[f"{service.name}-ops"]
    assert loaded.telemetry.otlp_endpoint == "http://127.0.0.1:4317"


def test_only_migrations_know_the_owner_of_a_schema(home: Home) -> None:
    parts = compose(home, {}).parts

    assert "METERING_POSTGRES__OWNER_DSN" in parts["metering-migrate"].environment()
    assert "METERING_POSTGRES__OWNER_DSN" not in parts["metering"].environment()


def test_services_share_one_secret_that_stays(home: Home) -> None:
    parts = compose(home, {}).parts
    signed = parts["gateway"].environment()["GATEWAY_PRINCIPAL__SECRETS"]

    assert len(signed) >= 32
    assert parts["metering"].environment()["METERING_PRINCIPAL__SECRETS"] == signed
    assert compose(home, {}).parts["gateway"].environment()["GATEWAY_PRINCIPAL__SECRETS"] == signed


TWICE = {fleet.REPLICAS: "orchestrator=2, inference-worker=2,metering=2"}


def test_replicas_have_ports_of_their_own_and_the_settings_of_their_service(home: Home) -> None:
    parts = compose(home, TWICE).parts
    one, two = parts["orchestrator"], parts["orchestrator-2"]
    settings = {name: (value, two.environment()[name]) for name, value in one.environment().items()}

    assert {name for name, (mine, other) in settings.items() if mine != other} == {
        "ORCHESTRATOR_GRPC__BIND",
        "ORCHESTRATOR_OPS__PORT",
    }
    assert settings["ORCHESTRATOR_OPS__PORT"][1] == str(two.ports["orchestrator-2-ops"])
    assert two.needs == one.needs
    assert not set(one.ports.values()) & set(two.ports.values())


def test_peers_are_told_of_every_replica(home: Home) -> None:
    parts = compose(home, TWICE).parts

    told = parts["gateway"].environment()["GATEWAY_PEERS__ORCHESTRATOR"]
    assert told == ",".join(
        parts[name].environment()["ORCHESTRATOR_GRPC__BIND"] for name in ("orchestrator", "orchestrator-2")
    )
    assert "," not in parts["gateway"].environment()["GATEWAY_PEERS__RETRIEVAL"]
    assert parts["orchestrator"].environment()["ORCHESTRATOR_TARGETS__WORKER"].count(",") == 1


def test_who_names_no_replicas_has_one_process_of_each_service_at_the_ports_it_had(home: Home) -> None:
    before = compose(home, {})
    twice = compose(home, TWICE)

    assert {name: part.ports for name, part in before.parts.items()}.items() <= {
        name: part.ports for name, part in twice.parts.items()
    }.items()
    assert compose(home, {}).parts.keys() == before.parts.keys()
    assert twice.parts.keys() - before.parts.keys() == {"orchestrator-2", "inference-worker-2", "metering-2"}


@pytest.mark.parametrize(
    "value", ["gateway=2", "orchestrator", "orchestrator=0", "orchestrator=10", "orchestrator=two", "mysql=2", "=2"]
)
def test_a_number_of_replicas_that_cannot_be_is_refused(home: Home, value: str) -> None:
    with pytest.raises(Refusal, match=f"ARGOSY_REPLICAS has '{value}' where SERVICE=COUNT belongs"):
        compose(home, {fleet.REPLICAS: value})

"""Which parts there are, on which ports, and what replaces them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from argosy_dev import kafka, ports, postgres, redis, services, smollm
from argosy_dev.part import Part
from argosy_dev.refusals import Refusal
from argosy_dev.services import Surroundings
from argosy_dev.state import Home

REPLACEABLE = {
    "ARGOSY_POSTGRES_DSN": "postgres",
    "ARGOSY_REDIS_URL": "redis",
    "ARGOSY_KAFKA_BOOTSTRAP": "kafka",
}
"""Variables of the environment that put the user's own part in the place of one of ours."""

UPSTREAMS = "ARGOSY_UPSTREAMS"
"""The user's own language models: a JSON object of upstreams by name; one called `local` takes the place of ours."""

OTLP_ENDPOINT = "ARGOSY_OTLP_ENDPOINT"
"""Where the services send every trace."""

REPLICAS = "ARGOSY_REPLICAS"
"""How many processes a service has, as in `orchestrator=2,metering=2`; each has one that is not named."""

PORTS = ("postgres", "redis", "kafka", "kafka-controller", "model")
"""Of what is no service."""
MOST_REPLICAS = 9


@dataclass(frozen=True, slots=True)
class Fleet:
    """The parts of one home, and where its clients find what."""

    parts: Mapping[str, Part]
    addresses: Mapping[str, str]
    """The variables of `.argosy/env` that are addresses, by name."""

    def closure(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return `names` with everything that they need, in start order; no names mean every part."""
        wanted: dict[str, None] = {}

        def add(name: str) -> None:
            for need in self.parts[name].needs:
                add(need)
            wanted[name] = None

        for name in names or self.parts:
            if name in self.parts:
                add(name)
            elif name not in REPLACEABLE.values():
                raise Refusal(f"There is no part {name!r}; the parts are {', '.join(self.parts)}.")
        return tuple(wanted)


def replaced(home: Home, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what the environment replaces or adds, as variable and value.

    A variable that holds our own address, because `.argosy/env` was sourced, replaces nothing.
    """
    env = os.environ if environment is None else environment
    own = compose(home, {}).addresses
    names = (*REPLACEABLE, UPSTREAMS, OTLP_ENDPOINT, REPLICAS)
    return {name: env[name] for name in names if env.get(name) and env[name] != own.get(name)}


def compose(home: Home, yours: Mapping[str, str]) -> Fleet:
    """Put the fleet together, around what is the user's own."""
    counts = _counts(yours)
    names = [name for replica in services.replicas(counts) for name in replica.ports]
    port = ports.load(home, (*names, *PORTS))
    upstreams = _upstreams(yours)
    addresses = {
        "ARGOSY_BASE_URL": f"http://{ports.LOOPBACK}:{port['gateway']}",
        "ARGOSY_POSTGRES_DSN": postgres.dsn(home, port["postgres"]),
        "ARGOSY_REDIS_URL": redis.url(port["redis"]),
        "ARGOSY_KAFKA_BOOTSTRAP": f"{ports.LOOPBACK}:{port['kafka']}",
    } | {name: address for name, address in yours.items() if name in REPLACEABLE}
    around = Surroundings(home, port, addresses, upstreams, yours.get(OTLP_ENDPOINT, ""), counts)
    every = [
        postgres.part(home, port["postgres"]),
        redis.part(home, port["redis"]),
        kafka.part(home, port["kafka"], port["kafka-controller"]),
        smollm.part(home, port["model"]),
        *services.parts(around),
    ]
    gone = {REPLACEABLE[name] for name in yours if name in REPLACEABLE} | ({"model"} if "local" in upstreams else set())
    ours = [part.without(gone) for part in every if part.name not in gone]
    return Fleet({part.name: part for part in ours}, addresses)


def _upstreams(yours: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Read the user's language models."""
    try:
        upstreams = json.loads(yours.get(UPSTREAMS, "{}"))
    except ValueError as error:
        raise Refusal(f"{UPSTREAMS} is not JSON: {error}.") from error
    if not isinstance(upstreams, dict) or not all(isinstance(upstream, dict) for upstream in upstreams.values()):
        raise Refusal(f"{UPSTREAMS} must be a JSON object that has an object for each upstream, by name.")
    return upstreams


def _counts(yours: Mapping[str, str]) -> dict[str, int]:
    """Read how many replicas there shall be. The gateway has one: there is one public port."""
    many = [service.name for service in services.SERVICES if service.name != "gateway"]
    counts = {}
    for word in filter(None, (word.strip() for word in yours.get(REPLICAS, "").split(","))):
        name, _, count = word.partition("=")
        if name not in many or not count.isdecimal() or not 1 <= int(count) <= MOST_REPLICAS:
            raise Refusal(
                f"{REPLICAS} has {word!r} where SERVICE=COUNT belongs, "
                f"with one of {', '.join(many)} and a count from 1 to {MOST_REPLICAS}."
            )
        counts[name] = int(count)
    return counts


def endpoint(variable: str, address: str) -> tuple[str, int]:
    """Return the host and port of an address that replaces a part."""
    text = address.split(",", maxsplit=1)[0]
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise Refusal(f"{variable} needs an address with a host and a port.")
    return host, port

"""Which parts there are, on which ports, and what replaces them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from argosy_dev import kafka, ports, postgres, redis, smollm
from argosy_dev.part import Part
from argosy_dev.refusals import Refusal
from argosy_dev.state import Home

REPLACEABLE = {
    "ARGOSY_POSTGRES_DSN": "postgres",
    "ARGOSY_REDIS_URL": "redis",
    "ARGOSY_KAFKA_BOOTSTRAP": "kafka",
}
"""Variables of the environment that put the user's own part in the place of one of ours."""

PORTS = ("gateway", "postgres", "redis", "kafka", "kafka-controller", "model")


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
    """Return which of our parts the environment replaces, as variable and value.

    A variable that holds our own address, because `.argosy/env` was sourced, replaces nothing.
    """
    env = os.environ if environment is None else environment
    own = compose(home, {}).addresses
    return {name: env[name] for name in REPLACEABLE if env.get(name) and env[name] != own[name]}


def compose(home: Home, yours: Mapping[str, str]) -> Fleet:
    """Put the fleet together, around the parts that are the user's own."""
    port = ports.load(home, PORTS)
    addresses = {
        "ARGOSY_POSTGRES_DSN": postgres.dsn(home, port["postgres"]),
        "ARGOSY_REDIS_URL": redis.url(port["redis"]),
        "ARGOSY_KAFKA_BOOTSTRAP": f"{ports.LOOPBACK}:{port['kafka']}",
    } | dict(yours)
    every = [
        postgres.part(home, port["postgres"]),
        redis.part(home, port["redis"]),
        kafka.part(home, port["kafka"], port["kafka-controller"]),
        smollm.part(home, port["model"]),
    ]
    gone = {REPLACEABLE[name] for name in yours}
    ours = [part.without(gone) for part in every if part.name not in gone]
    return Fleet({part.name: part for part in ours}, addresses)


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

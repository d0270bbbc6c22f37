"""Every kind of error has a status on both wires; every reason means one thing."""

import importlib
import pkgutil

from chassis import grpc, http
from chassis.errors import Kind, declared_errors

SERVICES = ("gateway", "orchestrator", "inference_worker", "metering", "retrieval")


def test_every_kind_has_a_status_on_both_wires() -> None:
    assert set(http.STATUS) == set(grpc.STATUS) == set(Kind)


def test_a_reason_has_one_kind_in_the_whole_fleet() -> None:
    for service in SERVICES:
        package = importlib.import_module(f"{service}.domain")
        for found in pkgutil.walk_packages(package.__path__, f"{service}.domain."):
            importlib.import_module(found.name)
    kinds: dict[str, set[Kind]] = {}
    for error in declared_errors():
        kinds.setdefault(error.reason, set()).add(error.kind)
    assert {reason: kind for reason, kind in kinds.items() if len(kind) > 1} == {}

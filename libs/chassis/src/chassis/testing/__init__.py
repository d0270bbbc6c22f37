"""Helpers for tests of every service: a fake clock, free ports, callers."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, PrincipalVerifier

SECRET = "a-secret-for-tests-and-nothing-but-tests"  # 40 characters
START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that only `advance` moves."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._seconds = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, by: timedelta) -> None:
        self._now += by
        self._seconds += by.total_seconds()


def free_port() -> int:
    """Return a TCP port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def a_principal(
    tenant_id: str = "ten_test",
    *,
    project_id: str = "prj_test",
    key_id: str = "key_test",
    user_id: str = "",
    roles: Iterable[str] = ("member",),
    plan: str = "",
) -> Principal:
    return Principal(tenant_id, project_id, key_id, user_id, frozenset(roles), plan)


def a_signer(clock: FakeClock | None = None, issuer: str = "tests") -> PrincipalSigner:
    """Make a signer whose tokens `a_verifier` accepts."""
    return PrincipalSigner(SECRET, issuer, clock or FakeClock())


def a_verifier(clock: FakeClock | None = None) -> PrincipalVerifier:
    """Make a verifier that accepts the tokens of `a_signer`."""
    return PrincipalVerifier([SECRET], clock or FakeClock())


def a_caller(principal: Principal | None = None, request_id: str | None = None) -> Caller:
    """Make a caller whose token `a_verifier` accepts: `with as_caller(a_caller()):`."""
    principal = principal or a_principal()
    return Caller(principal, a_signer().sign(principal), request_id or new_id("req_"))

"""What tests of every service need: time they give, ports that are free, callers that exist."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, PrincipalVerifier

SECRET = "a-secret-for-tests-and-nothing-but-tests"  # 40 characters
START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._seconds = 0.0

    def now(self) -> datetime:
        """Answer the time that the test gave."""
        return self._now

    def monotonic(self) -> float:
        """Answer the seconds that the test let pass."""
        return self._seconds

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by
        self._seconds += by.total_seconds()


def free_port() -> int:
    """Answer a TCP port of the loopback that nobody listens on at the moment."""
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
    roles: Iterable[str] = (),
    plan: str = "",
) -> Principal:
    """Make a principal that may do what `roles` allow."""
    return Principal(tenant_id, project_id, key_id, user_id, frozenset(roles), plan)


def a_signer(clock: FakeClock | None = None, issuer: str = "tests") -> PrincipalSigner:
    """Make a signer that `a_verifier` believes."""
    return PrincipalSigner(SECRET, issuer, clock or FakeClock())


def a_verifier(clock: FakeClock | None = None) -> PrincipalVerifier:
    """Make a verifier that believes `a_signer`."""
    return PrincipalVerifier([SECRET], clock or FakeClock())


def a_caller(principal: Principal | None = None, request_id: str | None = None) -> Caller:
    """Make a caller whose token `a_verifier` believes: `with acting(a_caller()):`."""
    principal = principal or a_principal()
    return Caller(principal, a_signer().sign(principal), request_id or new_id("req_"))

"""Who asks: the principal that the edge authenticated, signed so that every service can check it.

A principal travels as a JWT (HS256, pinned) that lives for minutes. Signing and verifying are cached, because both
cost more than many a request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import jwt

from chassis.clock import Clock
from chassis.errors import ArgosyError, Kind, PermissionDenied

ALGORITHM = "HS256"
CACHED = 10_000  # entries of each cache
LEEWAY_SECONDS = 30.0  # how far the clocks of two machines may differ
LONGEST_TOKEN = 4_096  # characters; ours have a few hundred
TEXT_CLAIMS = ("tenant_id", "project_id", "key_id", "user_id", "plan")

K = TypeVar("K")
V = TypeVar("V")


class PrincipalInvalid(ArgosyError):
    """The call carries no principal, or one that is malformed, expired, or signed by somebody else."""

    kind, reason = Kind.UNAUTHENTICATED, "PRINCIPAL_INVALID"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. Empty text means: not known or not applicable."""

    tenant_id: str
    project_id: str = ""
    key_id: str = ""
    user_id: str = ""
    roles: frozenset[str] = frozenset()
    plan: str = ""

    def require(self, role: str) -> None:
        """Raise `PermissionDenied` unless the principal has `role`."""
        if role not in self.roles:
            raise PermissionDenied(f"This needs the role {role!r}.")


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal of the request at hand, with the token to pass on and the request's id."""

    principal: Principal
    token: str
    request_id: str


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current_caller() -> Caller:
    """Answer who asks in this context. Raises `PrincipalInvalid` when nobody does."""
    caller = _caller.get()
    if caller is None:
        raise PrincipalInvalid("The call carries no principal.")
    return caller


def find_caller() -> Caller | None:
    """Answer who asks in this context, or None; for code that serves both (logs, spans)."""
    return _caller.get()


class as_caller:  # noqa: N801 - reads as a statement: `with acting(caller):`
    """Make `caller` the current one within a `with` block."""

    __slots__ = ("_caller", "_token")

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __enter__(self) -> Caller:
        self._token: Token[Caller | None] = _caller.set(self._caller)
        return self._caller

    def __exit__(self, *_: object) -> None:
        try:
            _caller.reset(self._token)
        except ValueError:
            # A generator closed from another context; that context never saw the caller.
            _caller.set(None)


class PrincipalSigner:
    """Signs principals, as `issuer`. A token is handed out again while at least half its `lifetime` is left."""

    def __init__(self, secret: str, issuer: str, clock: Clock, lifetime: timedelta = timedelta(minutes=5)) -> None:
        self._secret = secret
        self._issuer = issuer
        self._clock = clock
        self._lifetime_seconds = lifetime.total_seconds()
        self._signed: _Recent[Principal, tuple[str, float]] = _Recent(CACHED)

    def sign(self, principal: Principal) -> str:
        """Answer a token for `principal` that is good for half the lifetime at least."""
        now = self._clock.now().timestamp()
        known = self._signed.get(principal)
        if known is not None and now < known[1]:
            return known[0]
        claims: dict[str, Any] = {name: value for name in TEXT_CLAIMS if (value := getattr(principal, name))}
        claims |= {"iss": self._issuer, "iat": int(now), "exp": int(now + self._lifetime_seconds)}
        if principal.roles:
            claims["roles"] = sorted(principal.roles)
        token = jwt.encode(claims, self._secret, algorithm=ALGORITHM)
        self._signed.put(principal, (token, now + self._lifetime_seconds / 2))
        return token


class PrincipalVerifier:
    """Verifies what any of `secrets` signed: several, so that a secret can be replaced while both are in use."""

    def __init__(self, secrets: Sequence[str], clock: Clock) -> None:
        if not secrets:
            raise ValueError("a verifier without secrets would refuse everybody")
        self._secrets = tuple(secrets)
        self._clock = clock
        self._verified: _Recent[str, tuple[Principal, float]] = _Recent(CACHED)

    def verify(self, token: str) -> Principal:
        """Answer whom `token` speaks for. Raises `PrincipalInvalid`: forged, expired, or not a token at all."""
        now = self._clock.now().timestamp()
        known = self._verified.get(token)
        principal, expires = known or self._read(token, now)
        if now >= expires:
            raise PrincipalInvalid("The principal has expired.")
        if known is None:
            self._verified.put(token, (principal, expires))
        return principal

    def _read(self, token: str, now: float) -> tuple[Principal, float]:
        if len(token) > LONGEST_TOKEN:
            raise PrincipalInvalid("The principal is too long.")
        claims = self._claims(token)
        expires, issued = claims["exp"], claims["iat"]
        if not _is_number(expires) or not _is_number(issued):
            raise PrincipalInvalid("The principal has no times.")
        if issued > now + LEEWAY_SECONDS:
            raise PrincipalInvalid("The principal was signed in the future.")
        return _principal(claims), expires

    def _claims(self, token: str) -> dict[str, Any]:
        # Times are checked by our own clock; PyJWT would ask the machine's.
        options: Any = {
            "require": ["iss", "iat", "exp", "tenant_id"],
            "verify_exp": False,
            "verify_iat": False,
        }
        for secret in self._secrets:
            try:
                return jwt.decode(token, secret, algorithms=[ALGORITHM], options=options)
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as error:
                raise PrincipalInvalid("The principal is malformed.") from error
        raise PrincipalInvalid("The principal is signed by somebody else.")


class _Recent(Generic[K, V]):
    """A mapping that forgets what was not asked for the longest, beyond `size` entries."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


def _principal(claims: dict[str, Any]) -> Principal:
    texts = {name: claims.get(name, "") for name in TEXT_CLAIMS}
    roles = claims.get("roles", [])
    readable = all(isinstance(value, str) for value in texts.values()) and texts["tenant_id"]
    if not readable or not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise PrincipalInvalid("The principal's claims are malformed.")
    return Principal(**texts, roles=frozenset(roles))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

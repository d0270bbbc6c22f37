"""The caller of a request: the principal that the gateway authenticated, signed so that every service can verify it.

A principal is sent as a JWT (HS256 only) that is valid for minutes. Signing and verifying are cached, because each
costs more than some requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
from cachetools import LRUCache

from chassis.clock import Clock
from chassis.errors import ArgosyError, Kind, PermissionDenied

ALGORITHM = "HS256"
CACHE_SIZE = 10_000
LEEWAY_SECONDS = 30.0  # of clock skew between two machines
MAX_TOKEN_LENGTH = 4_096  # real tokens have a few hundred characters
TEXT_CLAIMS = ("tenant_id", "project_id", "key_id", "user_id", "plan")


class PrincipalInvalid(ArgosyError):
    """The call carries no principal, or one that is malformed, expired, or has a wrong signature."""

    kind, reason = Kind.UNAUTHENTICATED, "PRINCIPAL_INVALID"


@dataclass(frozen=True, slots=True)
class Principal:
    """Identity and rights of a caller. Empty strings mean unknown or not applicable."""

    tenant_id: str
    project_id: str = ""
    key_id: str = ""
    user_id: str = ""
    roles: frozenset[str] = frozenset()
    plan: str = ""

    def require(self, *roles: str) -> None:
        """Raise `PermissionDenied` unless the principal has one of `roles`."""
        if self.roles.isdisjoint(roles):
            raise PermissionDenied(f"This needs the role {' or '.join(map(repr, roles))}.")


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal of the current request, with the token to pass on and the request's id."""

    principal: Principal
    token: str
    request_id: str


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current_caller() -> Caller:
    """Return the caller of this context. Raises `PrincipalInvalid` when there is none."""
    caller = _caller.get()
    if caller is None:
        raise PrincipalInvalid("The call carries no principal.")
    return caller


def find_caller() -> Caller | None:
    """Return the caller of this context, or None; for code that runs with and without one (logs, spans)."""
    return _caller.get()


class as_caller:  # noqa: N801 - reads as a statement: `with as_caller(caller):`
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
            # A generator that is closed in another context, in which the token is not valid.
            _caller.set(None)


class PrincipalSigner:
    """Signs principals as `issuer`. A token is reused while at least half of its `lifetime` is left."""

    def __init__(self, secret: str, issuer: str, clock: Clock, lifetime: timedelta = timedelta(minutes=5)) -> None:
        self._secret = secret
        self._issuer = issuer
        self._clock = clock
        self._lifetime_seconds = lifetime.total_seconds()
        self._signed: LRUCache[Principal, tuple[str, float]] = LRUCache(CACHE_SIZE)

    def sign(self, principal: Principal) -> str:
        """Return a token for `principal` that is valid for at least half the lifetime."""
        now = self._clock.now().timestamp()
        # Not `get`: in cachetools that is two more calls of Python functions, and this is on the hot path.
        try:
            cached, renew_at = self._signed[principal]
        except KeyError:
            renew_at = 0.0
        if now < renew_at:
            return cached
        claims: dict[str, Any] = {name: value for name in TEXT_CLAIMS if (value := getattr(principal, name))}
        claims |= {"iss": self._issuer, "iat": int(now), "exp": int(now + self._lifetime_seconds)}
        if principal.roles:
            claims["roles"] = sorted(principal.roles)
        token = jwt.encode(claims, self._secret, algorithm=ALGORITHM)
        self._signed[principal] = (token, now + self._lifetime_seconds / 2)
        return token


class PrincipalVerifier:
    """Verifies tokens signed with any of `secrets`: several, so that a secret can be rotated."""

    def __init__(self, secrets: Sequence[str], clock: Clock) -> None:
        if not secrets:
            raise ValueError("a verifier needs secrets")
        self._secrets = tuple(secrets)
        self._clock = clock
        self._verified: LRUCache[str, tuple[Principal, float]] = LRUCache(CACHE_SIZE)

    def verify(self, token: str) -> Principal:
        """Return the principal of `token`. Raises `PrincipalInvalid`: forged, expired, or malformed."""
        now = self._clock.now().timestamp()
        try:
            principal, expires = self._verified[token]
        except KeyError:
            principal, expires = self._parse(token, now)
            if now < expires:
                self._verified[token] = (principal, expires)
        if now >= expires:
            raise PrincipalInvalid("The principal has expired.")
        return principal

    def _parse(self, token: str, now: float) -> tuple[Principal, float]:
        if len(token) > MAX_TOKEN_LENGTH:
            raise PrincipalInvalid("The principal is too long.")
        claims = self._claims(token)
        expires, issued = claims["exp"], claims["iat"]
        if not _is_number(expires) or not _is_number(issued):
            raise PrincipalInvalid("The principal has no times.")
        if issued > now + LEEWAY_SECONDS:
            raise PrincipalInvalid("The principal was signed in the future.")
        return _claims_to_principal(claims), expires

    def _claims(self, token: str) -> dict[str, Any]:
        # Times are checked with the injected clock; PyJWT would use the system's.
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
        raise PrincipalInvalid("The principal has a wrong signature.")


def _claims_to_principal(claims: dict[str, Any]) -> Principal:
    texts = {name: claims.get(name, "") for name in TEXT_CLAIMS}
    roles = claims.get("roles", [])
    readable = all(isinstance(value, str) for value in texts.values()) and texts["tenant_id"]
    if not readable or not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise PrincipalInvalid("The principal's claims are malformed.")
    return Principal(**texts, roles=frozenset(roles))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

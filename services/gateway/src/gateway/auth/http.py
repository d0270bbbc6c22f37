"""From an Authorization header to the caller that other services accept."""

from collections.abc import Iterable

from chassis.errors import ArgosyError, Unavailable
from chassis.http import Scope
from chassis.tenancy import Caller, Principal, PrincipalSigner

from gateway.auth.address import client_address
from gateway.auth.authenticate import ApiKeyAuthenticator
from gateway.metrics import AUTHENTICATIONS, KEY_CACHE
from gateway.rate_limits.failures import FailedAuthenticationLimiter

BEARER = b"bearer "

_success = AUTHENTICATIONS.labels("success")
_hit = KEY_CACHE.labels("hit")
_miss = KEY_CACHE.labels("miss")


class Authenticator:
    """Authenticates requests by their API key, and counts them.

    `failures` limits attempts with unknown keys per address. `trusted_proxies` stand in front of the gateway.
    """

    def __init__(
        self,
        api_keys: ApiKeyAuthenticator,
        signer: PrincipalSigner,
        failures: FailedAuthenticationLimiter,
        trusted_proxies: int = 0,
    ) -> None:
        self._api_keys = api_keys
        self._signer = signer
        self._failures = failures
        self._trusted_proxies = trusted_proxies

    async def authenticate(self, scope: Scope, request_id: str) -> Caller:
        """Raises MissingApiKey, InvalidApiKey, KeyRevoked, KeyExpired, TooManyFailedAuthentications, or Unavailable."""
        try:
            key = bearer_token(scope["headers"])
            principal = self._api_keys.get_cached(key) if key else None
            if principal is None:
                principal = await self._look_up(key, scope)
            else:
                _hit.inc()
        except ArgosyError as error:
            AUTHENTICATIONS.labels(error.code).inc()
            raise
        _success.inc()
        return Caller(principal, self._signer.sign(principal), request_id)

    async def _look_up(self, key: bytes, scope: Scope) -> Principal:
        if key:
            _miss.inc()
        # A key that was valid before is not limited: guesses from the same address must not lock it out.
        if self._api_keys.was_verified(key):
            return await self._api_keys.authenticate(key)
        peer = scope.get("client")
        address = client_address(peer[0] if peer else "", scope["headers"], self._trusted_proxies)
        self._failures.take(address)
        try:
            principal = await self._api_keys.authenticate(key)
        except Unavailable:
            self._failures.give_back(address)
            raise
        self._failures.give_back(address)
        return principal


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the key, or nothing when there is none."""
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == BEARER and (token := value[7:].strip()):
                return token
            break
    return b""

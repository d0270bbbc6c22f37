"""From an Authorization header to the caller that other services accept."""

from collections.abc import Iterable

from chassis.errors import ArgosyError
from chassis.tenancy import Caller, PrincipalSigner

from gateway.auth.api_key import MissingApiKey
from gateway.auth.authenticate import ApiKeyAuthenticator
from gateway.metrics import AUTHENTICATIONS, KEY_CACHE

BEARER = b"bearer "

_success = AUTHENTICATIONS.labels("success")
_hit = KEY_CACHE.labels("hit")
_miss = KEY_CACHE.labels("miss")


class Authenticator:
    """Authenticates requests by their API key, and counts them."""

    def __init__(self, api_keys: ApiKeyAuthenticator, signer: PrincipalSigner) -> None:
        self._api_keys = api_keys
        self._signer = signer

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> Caller:
        """Raises MissingApiKey, InvalidApiKey, KeyRevoked, KeyExpired, or Unavailable when it cannot be checked."""
        try:
            key = bearer_token(headers)
            principal = self._api_keys.get_cached(key)
            if principal is None:
                _miss.inc()
                principal = await self._api_keys.authenticate(key)
            else:
                _hit.inc()
        except ArgosyError as error:
            AUTHENTICATIONS.labels(error.code).inc()
            raise
        _success.inc()
        return Caller(principal, self._signer.sign(principal), request_id)


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Raises MissingApiKey."""
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == BEARER and (token := value[7:].strip()):
                return token
            break
    raise MissingApiKey("You didn't provide an API key: send it as 'Authorization: Bearer argosy_...'.")

"""The door: from an Authorization header to a caller whom the fleet believes."""

from collections.abc import Iterable

from chassis.errors import ArgosyError
from chassis.tenancy import Caller, PrincipalSigner

from gateway.domain.keys import MissingApiKey
from gateway.domain.principals import Admission
from gateway.metrics import ADMISSIONS, KEY_CACHE

BEARER = b"bearer "

_admitted = ADMISSIONS.labels("admitted")
_hit = KEY_CACHE.labels("hit")
_miss = KEY_CACHE.labels("miss")


class Door:
    """Admits requests by their API key."""

    def __init__(self, admission: Admission, signer: PrincipalSigner) -> None:
        self._admission = admission
        self._signer = signer

    async def enter(self, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> Caller:
        """Raises MissingApiKey, InvalidApiKey, KeyRevoked, KeyExpired, or Unavailable when nobody can know."""
        try:
            presented = bearer_of(headers)
            principal = self._admission.recall(presented)
            if principal is None:
                _miss.inc()
                principal = await self._admission.admit(presented)
            else:
                _hit.inc()
        except ArgosyError as error:
            ADMISSIONS.labels(error.code).inc()
            raise
        _admitted.inc()
        return Caller(principal, self._signer.sign(principal), request_id)


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Find the key. Raises MissingApiKey."""
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == BEARER and (presented := value[7:].strip()):
                return presented
            break
    raise MissingApiKey("You didn't provide an API key: send it as 'Authorization: Bearer argosy_...'.")

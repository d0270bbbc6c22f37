"""What a provider call is paid with: one credential of several, the house's or a tenant's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

ALL_TENANTS: Final = "*"


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret that a provider accepts. Raises `ValueError` for one that cannot be sent in a header."""

    credential_id: str
    tenant_id: str
    """Who brought it; `ALL_TENANTS` for the house's, which all tenants use."""
    secret: str = field(repr=False)
    weight: int = 1

    def __post_init__(self) -> None:
        if not self.secret.isascii() or not self.secret.isprintable() or self.secret != self.secret.strip():
            raise ValueError("a credential holds a character that cannot be sent")


@dataclass(frozen=True, slots=True)
class SealedCredential:
    """A credential as it is stored, with the data key of its tenant, which a ring of keys has wrapped."""

    upstream: str
    credential_id: str
    tenant_id: str
    sealed: bytes
    wrapped_key: bytes
    weight: int = 1


class Credentials(Protocol):
    """The credentials of one upstream."""

    def of(self, tenant_id: str) -> Sequence[Credential]:
        """Return those in force now: the tenant's own if it has brought any, else the house's.

        Read it at each attempt: a credential that is revoked is missing from the next answer.
        """


class StaticCredentials:
    """The house's credentials, from the settings."""

    def __init__(self, credentials: Sequence[Credential] = ()) -> None:
        self._credentials = tuple(credentials)

    def of(self, tenant_id: str) -> Sequence[Credential]:  # noqa: ARG002 - part of the port
        return self._credentials


NO_CREDENTIALS: Final = StaticCredentials()

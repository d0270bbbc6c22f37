"""The address of a client, also behind proxies of the installation."""

from collections.abc import Iterable

FORWARDED_FOR = b"x-forwarded-for"


def client_address(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted_proxies: int) -> str:
    """Return the address that the outermost of our proxies saw.

    Each proxy appends the address it was called from, so the entry is counted from the right: what a client wrote
    itself is to the left of it. `peer` is the address of the connection.
    """
    if not trusted_proxies:
        return peer
    values = b",".join(value for name, value in headers if name == FORWARDED_FOR)
    addresses = [text.strip() for text in values.decode("latin-1").split(",") if text.strip()]
    return addresses[-trusted_proxies] if len(addresses) >= trusted_proxies else peer

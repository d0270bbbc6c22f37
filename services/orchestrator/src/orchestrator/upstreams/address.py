"""Refuses addresses that no provider has: of metadata services, and of this machine's link.

An address is given by an operator, so private networks are allowed: models run there. Workers look at the address again
when they have connected, before they send anything, because a name may resolve to another one later.
"""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from values.addresses import is_link_local, to_address

from orchestrator.upstreams.model import UpstreamAddressNotAllowed

METADATA_NAMES: Final = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
MAX_URL_CHARACTERS: Final = 2_000


def check_base_url(url: str, allowed: Collection[str]) -> str:
    """Return the URL. Raises UpstreamAddressNotAllowed unless its host is one of `allowed`."""
    host = _host(url)
    if host in allowed:
        return url
    if host in METADATA_NAMES:
        raise _refused("it is the name of a metadata service")
    address = to_address(host)
    if address is not None and is_link_local(address):
        raise _refused("its address is link-local, or of a metadata service")
    return url


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _refused("it is no URL") from None
    if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
        raise _refused(f"it has at most {MAX_URL_CHARACTERS} printable ASCII characters, and no spaces")
    if parts.scheme not in {"http", "https"} or not host:
        raise _refused("it begins with https:// or http://, and names a host")
    if parts.username is not None or parts.password is not None:
        raise _refused("it holds a user: a secret belongs into a credential")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise _refused("it has a query or a fragment: a secret belongs into a credential")
    return host.removesuffix(".").lower()


def _refused(why: str) -> UpstreamAddressNotAllowed:
    return UpstreamAddressNotAllowed(f"This base_url cannot be used: {why}.", param="base_url")

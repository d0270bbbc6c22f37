"""Which URLs and addresses webhooks may be sent to, against server-side request forgery (OWASP).

A URL is checked when it is given, and again at every attempt: then its name is resolved once, all of its addresses are
checked, and the connection is made to one of exactly these. What a name resolves to later cannot matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import idna

from orchestrator.webhooks.model import MAX_URL_CHARACTERS, WebhookUrlNotAllowed

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEFAULT_PORTS = {"https": 443, "http": 80}

# Scheme, authority and the rest. Of ASCII only what RFC 3986 allows, of the rest only what a host name may have: no
# spaces, no control characters, no backslash (which some parsers take for a slash).
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#\s\\]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]@]*\]|[^\[\]@:]*)(?::(?P<port>[0-9]{0,5}))?", re.ASCII)
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_DOTTED = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}", re.ASCII)
# The last label of a name that the C library would read as a number, of any base: 127.1, 0x7f000001, 017700000001.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

# Names that mean this machine or this site, whatever they resolve to (RFC 6761, 6762, 8375, 9476; ICANN's .internal).
LOCAL_SUFFIXES = ("localhost", "local", "internal", "home.arpa", "lan", "intranet", "corp", "home", "alt", "onion")

# IANA's special-purpose registry, all that is not reachable by everyone; and the metadata service of Azure, whose
# address is public but answered by the host.
FORBIDDEN_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "168.63.129.16/32",
        ),
    )
)  # fmt: skip
# Only global unicast is allowed, and of that not: 2001::/23 (Teredo, ORCHID, benchmarks…), documentation, 6to4.
GLOBAL_V6 = IPv6Network("2000::/3")
FORBIDDEN_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
# Their last 32 bits are an IPv4 address, which is what is checked: mapped addresses, and NAT64 (RFC 6052).
EMBEDS_V4 = tuple(map(IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96")))
# The third quarter of an ISATAP address (RFC 5214); its last 32 bits are an IPv4 address of a site.
ISATAP = (0x00005EFE, 0x02005EFE)


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """What operators allow. `networks` and `hosts` are private targets; `ports` empty: all."""

    allow_http: bool = False
    ports: frozenset[int] = frozenset({443, 8443})
    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in parts. `host` is a name in ASCII, or an address without brackets."""

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None = field(default=None)
    """Set when the host is an address."""


def parse_target(url: str, policy: TargetPolicy) -> Target:
    """Read a URL strictly, and check all that can be checked without DNS. Raises WebhookUrlNotAllowed."""
    if len(url) > MAX_URL_CHARACTERS:
        raise refused(f"it has more than {MAX_URL_CHARACTERS} characters")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise refused("it is no absolute URL without a fragment")
    scheme = parts["scheme"].lower()
    if scheme != "https" and not (scheme == "http" and policy.allow_http):
        raise refused("its scheme must be https")
    path = (parts["path"] or "/") + (parts["query"] or "")
    if _PATH.fullmatch(path) is None:
        raise refused("its path has characters that must be percent-encoded")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise refused("its host must be a name or an address, without a user")
    port = int(authority["port"] or DEFAULT_PORTS[scheme])
    if (policy.ports and port not in policy.ports) or not 1 <= port <= 65_535:
        raise refused(f"the port {port} is not allowed")
    target = _with_host(authority["host"], scheme, port, path)
    if target.address is not None:
        check_address(target.address, target.host, policy)
    elif target.host not in policy.hosts and _is_local(target.host):
        raise refused("its host is a local name")
    return target


def check_addresses(target: Target, found: Iterable[str], policy: TargetPolicy) -> Sequence[str]:
    """Return the addresses of a name if all of them are allowed. Raises WebhookUrlNotAllowed.

    One address that is not refuses all: a name that is public and private at once is a trick or a mistake.
    """
    addresses = [ip_address(text.partition("%")[0]) for text in found]
    for address in addresses:
        check_address(address, target.host, policy)
    if not addresses:
        raise refused("its host has no address")
    return [str(address) for address in dict.fromkeys(addresses)]


def check_address(address: Address, host: str, policy: TargetPolicy) -> None:
    """Raises WebhookUrlNotAllowed unless the address is public, or allowed for this host."""
    plain = _embedded(address)
    if host in policy.hosts or any(plain in network for network in policy.networks if network.version == plain.version):
        return
    if not is_public(plain):
        raise refused("its host is at an address that is not public")


def is_public(address: Address) -> bool:
    """Whether the address belongs to the public Internet, and to no local or special use."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in FORBIDDEN_V4)
    plain = _embedded(address)
    if isinstance(plain, IPv4Address):
        return is_public(plain)
    if int(address) >> 32 & 0xFFFFFFFF in ISATAP:
        return False
    return address in GLOBAL_V6 and not any(address in network for network in FORBIDDEN_V6)


def refused(why: str) -> WebhookUrlNotAllowed:
    return WebhookUrlNotAllowed(f"This URL cannot be called: {why}.", param="url")


def to_host(name: str) -> str:
    """Convert a name to ASCII as browsers do (UTS 46): compatible characters, dots and case are mapped first.

    Raises WebhookUrlNotAllowed.
    """
    try:
        ascii_name = name.lower() if name.isascii() else idna.encode(name, uts46=True, std3_rules=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise refused("its host is no valid name") from None
    ascii_name = ascii_name.removesuffix(".")
    if len(ascii_name) > 253:
        raise refused("its host is too long")
    return ascii_name


def _with_host(text: str, scheme: str, port: int, path: str) -> Target:
    if text.startswith("["):
        try:
            # Without a zone: `fe80::1%eth0` names an interface of this machine.
            address = IPv6Address(text[1:-1])
        except AddressValueError:
            raise refused("its host is no IPv6 address") from None
        if address.scope_id is not None:
            raise refused("its host names an interface")
        return Target(scheme, str(address), port, path, address)
    host = to_host(text)
    if _DOTTED.fullmatch(host):
        try:
            return Target(scheme, host, port, path, IPv4Address(host))
        except AddressValueError:
            raise refused("its host is no IPv4 address") from None
    if _NAME.fullmatch(host) is None:
        raise refused("its host is no valid name")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise refused("its host is an unusual notation of an address")
    return Target(scheme, host, port, path)


def _is_local(host: str) -> bool:
    return "." not in host or any(host == suffix or host.endswith(f".{suffix}") for suffix in LOCAL_SUFFIXES)


def _embedded(address: Address) -> Address:
    if isinstance(address, IPv6Address) and any(address in network for network in EMBEDS_V4):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def parse_allowed(entries: Iterable[str]) -> tuple[tuple[Network, ...], frozenset[str]]:
    """Split an allow list into networks and host names. Raises ValueError naming the entry at fault."""
    networks: list[Network] = []
    hosts: set[str] = set()
    for entry in entries:
        if "/" in entry or ":" in entry or _DOTTED.fullmatch(entry):
            networks.append(ip_network(entry))
        elif _NAME.fullmatch(entry.lower()) and not _NUMBER.fullmatch(entry.lower().rpartition(".")[2]):
            hosts.add(entry.lower())
        else:
            raise ValueError(f"{entry!r} is neither a network nor a host name")
    return tuple(networks), frozenset(hosts)

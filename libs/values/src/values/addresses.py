"""Addresses that no upstream may have, read in every notation that the C library reads."""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

# 169.254.169.254 and 169.254.170.2 are metadata services; so are Alibaba's and Azure's, which are not on the link, and
# AWS's of IPv6. What is unspecified is this machine for a client.
LINK_LOCAL_V4: Final = tuple(
    map(IPv4Network, ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "0.0.0.0/8"))
)
LINK_LOCAL_V6: Final = tuple(map(IPv6Network, ("fe80::/10", "fd00:ec2::254/128", "::/128")))
# Their last 32 bits are an IPv4 address: mapped and compatible addresses, and NAT64 (RFC 6052).
EMBEDS_V4: Final = tuple(map(IPv6Network, ("::ffff:0:0/96", "::/96", "64:ff9b::/96")))
LOOPBACK_V6: Final = IPv6Address("::1")


def to_address(host: str) -> Address | None:
    """Return the address that a host is, also in decimal, octal or hexadecimal notation; None for a name."""
    try:
        return ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError, ValueError):
        return None


def is_link_local(address: Address) -> bool:
    """Whether it is link-local, unspecified, or a metadata service of a cloud."""
    if isinstance(address, IPv4Address):
        return any(address in network for network in LINK_LOCAL_V4)
    if any(address in network for network in LINK_LOCAL_V6):
        return True
    if address != LOOPBACK_V6 and any(address in network for network in EMBEDS_V4):
        return is_link_local(IPv4Address(int(address) & 0xFFFFFFFF))
    return False

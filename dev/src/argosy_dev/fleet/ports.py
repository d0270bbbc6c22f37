"""Which part listens where.

The first start writes `.argosy/ports`; from then on the file decides, so a port stays the same between starts and two
clones never meet. Ports are taken from below the range from which the kernel serves outgoing connections: a port
of that range can be lent to a stranger between two starts.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Iterator, Mapping
from zlib import crc32

import psutil

from argosy_dev.refusals import PortTaken, Refusal
from argosy_dev.state import Home, read_pairs, write_pairs

WELL_KNOWN = {"gateway": 8080}
"""For the fleet of the clone itself; the others, such as the tests' own, stay out of its way."""
RANGE = range(20_000, 32_000)
_BLOCK = 32
LOOPBACK = "127.0.0.1"


def free(port: int) -> bool:
    """Say whether a server could listen on `port` of the loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def assign(names: Iterable[str], given: Mapping[str, int], start: int | None = None) -> dict[str, int]:
    """Keep the ports of `given` and choose a free one for every other name, upwards from `start`."""
    ports = dict(given)
    candidates = _candidates(random.choice(RANGE) if start is None else start)
    for name in names:
        if name not in ports:
            ports[name] = next(p for p in candidates if p not in ports.values() and free(p))
    return ports


def load(home: Home, names: Iterable[str]) -> dict[str, int]:
    """Read `.argosy/ports`, add what is missing, and write it back when it grew."""
    given: dict[str, int] = {}
    for name, value in read_pairs(home.ports).items():
        if not value.isdecimal() or not 0 < int(value) < 65_536:
            raise Refusal(f"{home.ports} gives {name} the port {value!r}, which is not a port number.")
        given[name] = int(value)
    known = WELL_KNOWN.items() if home == Home.of_environment({}) else ()
    ports = assign(names, {name: port for name, port in known if free(port)} | given, _start(home))
    if ports != given:
        text = {name: str(port) for name, port in ports.items()}
        write_pairs(home.ports, text, comment="Where each part listens on 127.0.0.1; yours to edit.", mode=0o644)
    return ports


def refuse_taken(home: Home, ports: Mapping[str, int]) -> None:
    """Refuse with the name of the holder when somebody listens where a part is about to start."""
    for name, port in ports.items():
        if not free(port):
            raise PortTaken(
                f"Port {port} for {name} is in use{_holder(port)}: "
                f"stop that process, or change {name}= in {home.ports}."
            )


def _start(home: Home) -> int:
    """Begin each home's ports at a place of its own: two that start by turns would else get the same free ones."""
    blocks = len(RANGE) // _BLOCK
    return RANGE.start + _BLOCK * (crc32(str(home.root).encode()) % blocks)


def _candidates(start: int) -> Iterator[int]:
    yield from range(start, RANGE.stop)
    yield from range(RANGE.start, start)


def _holder(port: int) -> str:
    """Name the process that listens on `port`, when this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            at = getattr(connection.laddr, "port", None)
            if at == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""

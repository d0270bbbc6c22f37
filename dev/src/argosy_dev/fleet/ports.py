"""The port of each part.

The first start writes `.argosy/ports`, and later starts read it, so ports stay the same and two clones get different
ones. They lie below the kernel's ephemeral range: between two starts, the kernel could lend a port of that range to an
outgoing connection.
"""

import random
import socket
from collections.abc import Iterable, Iterator, Mapping
from zlib import crc32

import psutil

from argosy_dev.errors import CliError, PortTaken
from argosy_dev.fleet.paths import FleetPaths, read_pairs, write_pairs

WELL_KNOWN = {"gateway": 8080}
"""For the repository's own fleet; other fleets, such as that of the tests, do not use these."""
RANGE = range(20_000, 32_000)
_BLOCK = 32
LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port` of the loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def assign(names: Iterable[str], assigned: Mapping[str, int], start: int | None = None) -> dict[str, int]:
    """Keep the assigned ports and choose a free one for every other name, upwards from `start`."""
    ports = dict(assigned)
    candidates = _candidates(random.choice(RANGE) if start is None else start)
    for name in names:
        if name not in ports:
            ports[name] = next(p for p in candidates if p not in ports.values() and is_free(p))
    return ports


def load(paths: FleetPaths, names: Iterable[str]) -> dict[str, int]:
    """Read `.argosy/ports`, assign ports to new names, and write the file when it changed."""
    assigned: dict[str, int] = {}
    for name, value in read_pairs(paths.ports).items():
        if not value.isdecimal() or not 0 < int(value) < 65_536:
            raise CliError(f"{paths.ports} gives {name} the port {value!r}, which is not a port number.")
        assigned[name] = int(value)
    well_known = WELL_KNOWN.items() if paths == FleetPaths.from_environment({}) else ()
    ports = assign(names, {name: port for name, port in well_known if is_free(port)} | assigned, _first_port(paths))
    if ports != assigned:
        text = {name: str(port) for name, port in ports.items()}
        write_pairs(paths.ports, text, comment="The port of each part on 127.0.0.1; may be edited.")
    return ports


def check_free(paths: FleetPaths, ports: Mapping[str, int]) -> None:
    """Raise PortTaken, with the process that has the port, when one is in use."""
    for name, port in ports.items():
        if not is_free(port):
            raise PortTaken(
                f"Port {port} for {name} is in use{_holder(port)}: "
                f"stop that process, or change {name}= in {paths.ports}."
            )


def _first_port(paths: FleetPaths) -> int:
    """Return the start of this fleet's block: two fleets that never run at the same time would else share ports."""
    blocks = len(RANGE) // _BLOCK
    return RANGE.start + _BLOCK * (crc32(str(paths.root).encode()) % blocks)


def _candidates(start: int) -> Iterator[int]:
    yield from range(start, RANGE.stop)
    yield from range(RANGE.start, start)


def _holder(port: int) -> str:
    """Name the process that listens on `port`, if this user may see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            at = getattr(connection.laddr, "port", None)
            if at == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""

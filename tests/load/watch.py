"""What processes spend, read from outside: CPU by the kernel's own clock of each process, and resident memory."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.state import read_state

SERVICES = ("gateway", "orchestrator", "inference-worker", "metering", "retrieval")
STORES = ("postgres", "redis", "kafka")


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that are one thing: a service with all its replicas, or a store."""

    name: str
    pids: tuple[int, ...]

    def family(self) -> list[psutil.Process]:
        """Every process of it that lives, descendants included."""
        found: dict[int, psutil.Process] = {}
        for pid in self.pids:
            with suppress(psutil.Error):
                root = psutil.Process(pid)
                found.update({member.pid: member for member in (root, *root.children(recursive=True))})
        return list(found.values())

    def cpu_seconds(self) -> float:
        """CPU that its living processes have used, of children that ended too."""
        return sum(_cpu_seconds(member) for member in self.family())

    def memory_bytes(self) -> int:
        """Resident memory of all of them; what they share counts in each."""
        total = 0
        for member in self.family():
            with suppress(psutil.Error):
                total += member.memory_info().rss
        return total


def processes_of(home: FleetPaths, names: Iterable[str] = (*SERVICES, *STORES)) -> list[Group]:
    """Find the parts of a fleet; replicas are parts whose names go on with a dash and a number."""
    running = {part: entry.process.pid for part, entry in read_state(home).parts.items() if entry.process}
    return [Group(name, tuple(pid for part, pid in running.items() if is_replica(part, name))) for name in names]


def is_replica(part: str, name: str) -> bool:
    """Say whether a part is `name`, or one of its replicas, such as `gateway-2`."""
    return part == name or (part.startswith(f"{name}-") and part.removeprefix(f"{name}-").isdecimal())


def _cpu_seconds(process: psutil.Process) -> float:
    """The scheduler's clock of a process counts nanoseconds; psutil's times count ticks of 10 ms."""
    with suppress(psutil.Error):
        ended = process.cpu_times()
        gone = ended.children_user + ended.children_system
        with suppress(OSError):
            return (
                time.clock_gettime(~process.pid << 3 | 2) + gone
            )  # the id of the process-wide clock, clock_getcpuclockid(3)
        return ended.user + ended.system + gone
    return 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at all groups, and at how long each core was busy since the machine started."""

    at: float
    cpu: dict[str, float]
    memory: dict[str, int]
    cores: tuple[float, ...]

    @classmethod
    def of(cls, groups: Sequence[Group]) -> "Reading":
        """Look now."""
        return cls(
            time.monotonic(),
            {group.name: group.cpu_seconds() for group in groups},
            {group.name: group.memory_bytes() for group in groups},
            tuple(sum(core) - core.idle - core.iowait for core in psutil.cpu_times(percpu=True)),
        )

    def cpu_since(self, before: "Reading") -> dict[str, float]:
        """CPU seconds by group since another look."""
        return {name: max(spent - before.cpu.get(name, 0.0), 0.0) for name, spent in self.cpu.items()}

    def busy_percent_since(self, before: "Reading") -> list[int]:
        """How busy each core was."""
        took = self.at - before.at or 1e-9
        return [round(100 * (now - then) / took) for now, then in zip(self.cores, before.cores, strict=True)]

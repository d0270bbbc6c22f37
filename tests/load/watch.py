"""CPU and resident memory of processes, measured from outside, CPU by the kernel's clock of each process."""

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
    """The processes of one service with all its replicas, or of one store."""

    name: str
    pids: tuple[int, ...]

    def family(self) -> list[psutil.Process]:
        """Every running process of it, descendants included."""
        found: dict[int, psutil.Process] = {}
        for pid in self.pids:
            with suppress(psutil.Error):
                root = psutil.Process(pid)
                found.update({member.pid: member for member in (root, *root.children(recursive=True))})
        return list(found.values())

    def cpu_seconds(self) -> float:
        """CPU of its running processes and their ended children."""
        return sum(_cpu_seconds(member) for member in self.family())

    def memory_bytes(self) -> int:
        """Resident memory of all of them; shared pages count in each."""
        total = 0
        for member in self.family():
            with suppress(psutil.Error):
                total += member.memory_info().rss
        return total


def processes_of(paths: FleetPaths, names: Iterable[str] = (*SERVICES, *STORES)) -> list[Group]:
    """The groups of a fleet; a replica's part has a dash and a number after the service's name."""
    running = {part: entry.process.pid for part, entry in read_state(paths).parts.items() if entry.process}
    return [Group(name, tuple(pid for part, pid in running.items() if is_replica(part, name))) for name in names]


def is_replica(part: str, name: str) -> bool:
    """Whether a part is `name` or one of its replicas, such as `gateway-2`."""
    return part == name or (part.startswith(f"{name}-") and part.removeprefix(f"{name}-").isdecimal())


def _cpu_seconds(process: psutil.Process) -> float:
    """Read the scheduler's clock, in nanoseconds; psutil's times are in ticks of 10 ms."""
    with suppress(psutil.Error):
        ended = process.cpu_times()
        children = ended.children_user + ended.children_system
        with suppress(OSError):
            return (
                time.clock_gettime(~process.pid << 3 | 2) + children
            )  # the id of the process-wide clock, clock_getcpuclockid(3)
        return ended.user + ended.system + children
    return 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One sample of all groups, and of the busy time of each core since boot."""

    at: float
    cpu: dict[str, float]
    memory: dict[str, int]
    cores: tuple[float, ...]

    @classmethod
    def of(cls, groups: Sequence[Group]) -> "Reading":
        return cls(
            time.monotonic(),
            {group.name: group.cpu_seconds() for group in groups},
            {group.name: group.memory_bytes() for group in groups},
            tuple(sum(core) - core.idle - core.iowait for core in psutil.cpu_times(percpu=True)),
        )

    def cpu_since(self, before: "Reading") -> dict[str, float]:
        """CPU seconds by group since another sample."""
        return {name: max(spent - before.cpu.get(name, 0.0), 0.0) for name, spent in self.cpu.items()}

    def busy_percent_since(self, before: "Reading") -> list[int]:
        """Utilization of each core."""
        took = self.at - before.at or 1e-9
        return [round(100 * (now - then) / took) for now, then in zip(self.cores, before.cores, strict=True)]

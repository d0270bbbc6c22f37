"""Limits for parsing one document."""

import resource
from contextlib import suppress
from dataclasses import asdict, dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Limits:
    """Memory, CPU seconds, bytes of expanded content or text, and wall seconds until the next block of text."""

    memory_bytes: int = 1024 * 1024 * 1024
    cpu_seconds: int = 120
    expanded_bytes: int = 256 * 1024 * 1024
    block_seconds: float = 60.0

    def to_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> "Limits":
        return cls(**orjson.loads(text))

    def apply(self) -> None:
        """Apply the limits to this process, for good. Limits that the platform does not have are skipped."""
        for kind, soft, hard in (
            (resource.RLIMIT_AS, self.memory_bytes, self.memory_bytes),
            # The soft limit sends SIGXCPU, which identifies the cause; the hard one kills a process that ignores it.
            (resource.RLIMIT_CPU, self.cpu_seconds, self.cpu_seconds + 1),
            (resource.RLIMIT_FSIZE, 0, 0),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_NOFILE, 64, 64),
        ):
            with suppress(ValueError, OSError):
                resource.setrlimit(kind, (soft, hard))

"""What a document may cost."""

import json
import resource
from contextlib import suppress
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """For one document: memory, CPU seconds, bytes it may expand to, and seconds until its next block of text."""

    memory_bytes: int = 1024 * 1024 * 1024
    cpu_seconds: int = 120
    expanded_bytes: int = 256 * 1024 * 1024
    block_seconds: float = 60.0

    def to_text(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Limits":
        """From a command line."""
        return cls(**json.loads(text))

    def apply(self) -> None:
        """Bind this process, for good. A platform that does not know a limit goes without it."""
        for kind, value, most in (
            (resource.RLIMIT_AS, self.memory_bytes, self.memory_bytes),
            # The first is told by a signal of its own, which says what happened; the second kills who did not hear it.
            (resource.RLIMIT_CPU, self.cpu_seconds, self.cpu_seconds + 1),
            (resource.RLIMIT_FSIZE, 0, 0),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_NOFILE, 64, 64),
        ):
            with suppress(ValueError, OSError):
                resource.setrlimit(kind, (value, most))

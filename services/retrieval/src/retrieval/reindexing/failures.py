"""Files that could not be indexed anew, and when each may be tried again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from retrieval.reindexing.rebuild import OutdatedFile

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 60.0, 86_400.0
MAX_REMEMBERED = 10_000


@dataclass
class PausedFiles:
    """Implements Failures in the memory of a process: a minute's pause, doubled at each failure up to a day.

    Of more than `MAX_REMEMBERED` files, those that failed first are forgotten.
    """

    report: Callable[[OutdatedFile, Exception, int], None]
    """Called at each failure, with how many there were of the file."""
    clock: Callable[[], float] = monotonic
    _files: dict[tuple[str, int], tuple[int, float]] = field(default_factory=dict)

    def is_paused(self, file: OutdatedFile) -> bool:
        _, until = self._files.get((file.tenant_id, file.attachment), (0, 0.0))
        return self.clock() < until

    def add(self, file: OutdatedFile, error: Exception) -> None:
        key = (file.tenant_id, file.attachment)
        count = self._files.pop(key, (0, 0.0))[0] + 1
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(count - 1, 20), MAX_PAUSE_SECONDS)
        self._files[key] = count, self.clock() + pause
        while len(self._files) > MAX_REMEMBERED:
            del self._files[next(iter(self._files))]
        self.report(file, error, count)

    def forget(self, file: OutdatedFile) -> None:
        self._files.pop((file.tenant_id, file.attachment), None)

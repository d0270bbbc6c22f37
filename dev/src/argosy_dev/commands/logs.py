"""`logs`: the output of one part."""

import sys
import time

from argosy_dev.errors import CliError
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.supervisor import last_lines

_POLL_INTERVAL_SECONDS = 0.2


def logs(paths: FleetPaths, part: str, *, follow: bool, count: int) -> None:
    """Print the last `count` lines of a part's log, and with `follow` all later ones."""
    path = paths.log(part)
    if not path.exists():
        known = sorted(file.stem for file in paths.logs.glob("*.log"))
        raise CliError(f"There is no log of {part!r}; there are logs of {', '.join(known) or 'no part yet'}.")
    offset = path.stat().st_size
    for line in last_lines(path, count):
        print(line)
    while follow:
        size = path.stat().st_size
        if size < offset:  # the supervisor rotated it
            offset = 0
        if size > offset:
            with path.open("rb") as file:
                file.seek(offset)
                added = file.read()
            offset += len(added)
            sys.stdout.write(added.decode("utf-8", "replace"))
            sys.stdout.flush()
        time.sleep(_POLL_INTERVAL_SECONDS)

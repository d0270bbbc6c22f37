"""`logs`: what a part printed."""

from __future__ import annotations

import sys
import time

from argosy_dev.refusals import Refusal
from argosy_dev.state import Home
from argosy_dev.supervisor import last_lines

_POLL_SECONDS = 0.2


def logs(home: Home, part: str, *, follow: bool, count: int) -> None:
    """Print the last `count` lines of a part's log, and with `follow` everything that comes after them."""
    path = home.log(part)
    if not path.exists():
        known = sorted(file.stem for file in home.logs.glob("*.log"))
        raise Refusal(f"There is no log of {part!r}; there are logs of {', '.join(known) or 'nothing yet'}.")
    at = path.stat().st_size
    for line in last_lines(path, count):
        print(line)
    while follow:
        size = path.stat().st_size
        if size < at:  # it was trimmed
            at = 0
        if size > at:
            with path.open("rb") as file:
                file.seek(at)
                fresh = file.read()
            at += len(fresh)
            sys.stdout.write(fresh.decode("utf-8", "replace"))
            sys.stdout.flush()
        time.sleep(_POLL_SECONDS)

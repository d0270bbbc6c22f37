"""How much is run at once."""

from chassis.errors import Unavailable

from inference_worker.metrics import IN_FLIGHT, TURNED_AWAY


class Admission:
    """Lets a bounded number in: `with admission: …` raises `Unavailable` when it is reached."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        # Read when somebody asks, which is far more seldom than it changes.
        IN_FLIGHT.set_function(lambda: self._inside)

    def __enter__(self) -> None:
        if self._inside >= self._most:
            TURNED_AWAY.inc()
            raise Unavailable("the worker is full")
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1

"""Circuits as metrics, read at each scrape."""

from collections.abc import Callable, Collection
from functools import partial

from inference_worker.circuit_breakers.circuits import Circuits
from inference_worker.circuit_breakers.model import CircuitState
from inference_worker.metrics import OPEN_CIRCUITS, RESTING_CIRCUITS


def observe_circuits(circuits: Circuits, upstreams: Collection[str], now: Callable[[], float]) -> None:
    """Show how many circuits of each upstream are open, or rest."""

    def count_open(upstream: str) -> float:
        return sum(one.state is not CircuitState.CLOSED for one in circuits if one.key.upstream == upstream)

    def count_resting(upstream: str) -> float:
        at = now()
        resting = (
            max(one.resting_until, one.account.resting_until) > at for one in circuits if one.key.upstream == upstream
        )
        return sum(resting)

    for name in upstreams:
        OPEN_CIRCUITS.labels(name).set_function(partial(count_open, name))
        RESTING_CIRCUITS.labels(name).set_function(partial(count_resting, name))

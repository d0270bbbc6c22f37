"""Circuits as metrics, read at each scrape."""

from collections.abc import Callable, Collection
from functools import partial

from inference_worker.breakers.circuit import Circuit
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.model import CircuitState
from inference_worker.metrics import OPEN_CIRCUITS, RESTING_CIRCUITS

UNASKED_SECONDS = 60.0
"""An open circuit that is due for a probe for so long is not shown: nobody asks for its model any more."""


def observe_circuits(circuits: Circuits, upstreams: Collection[str], now: Callable[[], float]) -> None:
    """Show how many circuits of each upstream are open, or rest; `upstreams` may change meanwhile."""

    def count_open(upstream: str) -> float:
        since = now() - UNASKED_SECONDS
        return sum(
            one.state is not CircuitState.CLOSED and one.open_until > since
            for one in circuits
            if one.key.upstream == upstream
        )

    def count_resting(upstream: str) -> float:
        at = now()
        resting = (
            max(one.resting_until, one.account.resting_until) > at for one in circuits if one.key.upstream == upstream
        )
        return sum(resting)

    def show(upstream: str) -> None:
        OPEN_CIRCUITS.labels(upstream).set_function(partial(count_open, upstream))
        RESTING_CIRCUITS.labels(upstream).set_function(partial(count_resting, upstream))

    def changed(circuit: Circuit) -> None:
        # Upstreams are added while the process runs. Names that callers invent have no label.
        if circuit.key.upstream in upstreams:
            show(circuit.key.upstream)

    for name in upstreams:
        show(name)
    circuits.listen(changed)

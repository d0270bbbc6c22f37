"""CPU that the choice of a provider call adds to a request: its circuit, its credential and the budget of retries.

.venv/bin/python -m tests.load.attempts
"""

from collections.abc import Callable

from chassis.tenancy import Caller, Principal, as_caller
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.counts import Ticket
from inference_worker.plans.choose import Choice, RetryPolicy
from inference_worker.plans.model import Candidate
from inference_worker.plans.opening import opens_only
from inference_worker.providers.credentials import Credential, StaticCredentials
from inference_worker.providers.ports import Upstream

from tests.load.flags import microseconds

POLICY = RetryPolicy(retries=1)
CANDIDATES = (Candidate("u", "m", b"{}"), Candidate("u", "other", b"{}"))
FIRST = b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}'
CONTENT = b'{"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}'


class NoCounter:
    async def count(self, texts: object) -> int | None:
        return None


def call(credentials: int, *, broken: bool = False) -> Callable[[], object]:
    """Return what a request does: the choice of its first call, and the note of its success."""
    house = StaticCredentials(tuple(Credential(f"crd_{number}", "*", "secret") for number in range(credentials)))
    upstreams = {"u": Upstream(NoCounter(), credentials=house)}
    circuits = Circuits()
    if broken:
        for number in range(credentials):
            for _ in range(5):
                circuits.circuit("u", f"crd_{number}", "m").failed(0.0, Ticket(0.0, "ten_1"))

    def made() -> None:
        choice = Choice(CANDIDATES, upstreams, circuits, lambda: 0.5, policy=POLICY)
        chosen = choice.first() or choice.next_candidate()
        if chosen is not None:
            chosen.circuit.succeeded(0.5, chosen.ticket)

    return made


def main() -> None:
    principal = Principal("ten_1")
    with as_caller(Caller(principal, "", "req_1")):
        rows = {
            "one credential": microseconds(call(1)),
            "five credentials": microseconds(call(5)),
            "five credentials, all circuits of the first candidate open": microseconds(call(5, broken=True)),
            "a stream's first chunk, without content": microseconds(lambda: opens_only([FIRST])),
            "a stream's first chunk, with content": microseconds(lambda: opens_only([CONTENT])),
        }
    for name, value in rows.items():
        print(f"{name:60} {value:6.2f} µs")


if __name__ == "__main__":
    main()

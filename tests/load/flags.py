"""CPU that feature flags add to a request: the snapshot, as the hot path reads it, and the SDK of OpenFeature.

.venv/bin/python -m tests.load.flags
"""

import time
from collections.abc import Callable

from chassis.tenancy import Principal
from openfeature.evaluation_context import EvaluationContext
from orchestrator.flags.model import Feature, Flag, FlagType, Rule
from orchestrator.flags.provider import openfeature_client
from orchestrator.flags.snapshot import EMPTY, FlagCache, FlagSnapshot
from orchestrator.flags.switches import require_model, require_tools, usable_candidates
from orchestrator.routing.model import RouteCandidate

CALLS, ROUNDS = 20_000, 5
PRINCIPAL = Principal("ten_1", plan="free")
CANDIDATES = (RouteCandidate("local", "small", 512), RouteCandidate("cloud", "large", 512))


def switch(key: str, *rules: Rule) -> Flag:
    variants = {"on": True, "off": False}
    return Flag(key=key, type=FlagType.BOOLEAN, variants=variants, default_variant="on", rules=rules)


def all_kinds() -> FlagSnapshot:
    """A switch of each kind that a chat meets, with a rule by plan and one by percentage, and 200 others."""
    rules = (Rule(variant="off", plans=frozenset({"gold"})), Rule(variant="off", basis_points=0))
    met = ("feature.chat", "model.smollm2", "upstream.local", "upstream.cloud")
    keys = (*met, *(f"model.other-{number}" for number in range(200)))
    return FlagSnapshot(1, {key: switch(key, *rules) for key in keys})


def chat(flags: FlagSnapshot) -> None:
    """What `prepare` asks for a chat without tools."""
    evaluated: dict[str, str] = {}
    require_model(flags, Feature.CHAT, "smollm2", PRINCIPAL, evaluated)
    usable_candidates(flags, CANDIDATES, "smollm2", PRINCIPAL, evaluated)
    require_tools(flags, None, "smollm2", PRINCIPAL, evaluated)


def microseconds(call: Callable[[], object]) -> float:
    """The least mean of several rounds: what else the machine does only adds."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            call()
        best = min(best, time.process_time() - started)
    return best / CALLS * 1e6


def main() -> None:
    flags = all_kinds()
    client = openfeature_client(FlagCache(_Unread(), flags))
    context = EvaluationContext("ten_1", {"plan": "free", "model": "smollm2"})
    rows = {
        "a chat, no flag is defined": microseconds(lambda: chat(EMPTY)),
        "a chat, four switches with two rules each": microseconds(lambda: chat(flags)),
        "one evaluation by the SDK": microseconds(lambda: client.get_boolean_details("model.smollm2", True, context)),
    }
    for name, value in rows.items():
        print(f"{name:<45} {value:7.2f} µs")


class _Unread:
    async def read(self, known_version: int | None) -> FlagSnapshot | None:
        raise NotImplementedError


if __name__ == "__main__":
    main()

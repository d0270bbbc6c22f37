"""The fleet beside LiteLLM's proxy in the same run: `make bench-compare`, or python -m tests.load.compare --help.

As `make bench`, with the proxy as further ways to the same upstream, pinned to core 0 alone as the five services are.
Its environment is made at the first run: half a gigabyte.
"""

import sys
from contextlib import ExitStack

from tests.load import show, ways
from tests.load.bench import about, arguments, chosen, keep, measure, say, warm
from tests.load.proxy import BARE, FEATURES, KEYS, litellm
from tests.load.scenarios import SCENARIOS
from tests.load.world import world

NAMES = ("saturation", "steady", "paced")
FLEET = "all five services: keys, budgets, routes, reservation, settlement"


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, NAMES)
    parser.add_argument("--without-bare", action="store_true", help="leave out LiteLLM with a master key alone")
    words = parser.parse_args()
    loads = chosen(words, [scenario for scenario in SCENARIOS if scenario.name in NAMES])
    variants = [KEYS] if words.without_bare else [KEYS, BARE]
    say("starting a fleet for the bench in .argosy/bench, and LiteLLM")
    with world(words.replicas) as bench, ExitStack() as running:
        others = [running.enter_context(litellm(variant, bench)) for variant in variants]
        over = [ways.direct(bench), ways.fleet(bench), *others]
        warm(over, bench)
        results = about() | {"ways": {"fleet": FLEET} | {variant: FEATURES[variant] for variant in variants}}
        results["loads"] = measure(loads, over, bench, words.runs)
    print(show.text(results))
    keep(results, words.out)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

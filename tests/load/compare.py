"""The fleet beside LiteLLM's proxy in the same run: `make bench-compare`, or python -m tests.load.compare --help.

As `make bench`, with the proxy as further ways to the same upstream, pinned to core 0 alone as the five services are.
Its environment is made at the first run: half a gigabyte.
"""

import sys
from contextlib import ExitStack

from tests.load import show, targets
from tests.load.bench import about, arguments, chosen, keep, log, measure, warm
from tests.load.bench_fleet import bench_fleet
from tests.load.proxy import BARE, FEATURES, KEYS, litellm
from tests.load.scenarios import SCENARIOS

NAMES = ("saturation", "steady", "paced")
FLEET = "all five services: keys, budgets, routes, reservation, settlement"


def main() -> None:
    parser = arguments(__doc__, NAMES)
    parser.add_argument("--without-bare", action="store_true", help="leave out LiteLLM with a master key alone")
    options = parser.parse_args()
    loads = chosen(options, [scenario for scenario in SCENARIOS if scenario.name in NAMES])
    variants = [KEYS] if options.without_bare else [KEYS, BARE]
    log("starting a fleet for the bench in .argosy/bench, and LiteLLM")
    with bench_fleet(options.replicas) as bench, ExitStack() as running:
        others = [running.enter_context(litellm(variant, bench)) for variant in variants]
        over = [targets.direct(bench), targets.fleet(bench), *others]
        warm(over, bench)
        results = about() | {"ways": {"fleet": FLEET} | {variant: FEATURES[variant] for variant in variants}}
        results["loads"] = measure(loads, over, bench, options.runs)
    print(show.text(results))
    keep(results, options.out)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

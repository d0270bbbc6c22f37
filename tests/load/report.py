"""Put measured figures into docs/benchmarks.md, and draw its charts: `make bench-report`.

Reads docs/benchmarks/{bench,compare,growth}.json, which `--out` of the benches writes, and replaces what stands between
`<!-- figures: NAME -->` and `<!-- end -->`. What people wrote around it stays.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.fleet.environment import ROOT
from tests.load import goals, growth, show
from tests.load.chart import Bar, bars
from tests.load.watch import SERVICES

PAGE = ROOT / "docs" / "benchmarks.md"
FOLDER = ROOT / "docs" / "benchmarks"
WANTED_PER_SECOND, WANTED_FIRST_MS = 1_500, 3.0
Results = Mapping[str, Any]


def main() -> None:
    """Rewrite the page from the results that exist."""
    text = PAGE.read_text()
    for name, write in WRITERS.items():
        path = FOLDER / f"{name}.json"
        if path.exists():
            results = json.loads(path.read_text())
            charts = CHARTS[name](results)
            for file, svg in charts.items():
                (FOLDER / file).write_text(svg)
            text = replaced(text, name, [*pictures(charts), *write(results)])
    text = replaced(text, "flames", flames(sorted(FOLDER.glob("flame-*.svg"))))
    PAGE.write_text(text)


def pictures(files: Iterable[str]) -> list[str]:
    """Links to charts, with their names as alternative text."""
    lines = [f"![{file.removesuffix('.svg').replace('-', ' ')}]({FOLDER.name}/{file})" for file in files]
    return [*lines, ""] if lines else []


def flames(files: Iterable[Path]) -> list[str]:
    """Links to the existing flame graphs."""
    return [f"- [{file.stem.removeprefix('flame-').replace('-', ' ')}]({FOLDER.name}/{file.name})" for file in files]


def replaced(text: str, name: str, lines: list[str]) -> str:
    """Replace the lines between the marks of `name`. Raises KeyError when the page has no such marks."""
    place = re.compile(rf"(<!-- figures: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not place.search(text):
        raise KeyError(name)
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return place.sub(lambda match: f"{match[1]}\n{body}\n\n{match[2]}", text)


def how(results: Results) -> str:
    """One paragraph: command, machine, date, commit."""
    machine = results["machine"]
    pinned = "pinned" if machine["pinned"] else "not pinned"
    return (
        f"`{results['command']}` at {results['date']}, commit `{results['commit']}`, on {machine['cores']} cores of "
        f"{machine['cpu']} ({pinned}), {machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}."
    )


def loads(results: Results) -> list[str]:
    """Tables of every load, as `make bench` prints them."""
    lines = [how(results), ""]
    if kept := goals.rows(results):
        lines += [*show.markdown(kept), ""]
    lines += [f"- **{target}**: {features}." for target, features in results.get("ways", {}).items()]
    for title, tables, more in show.sections(dict(results)):
        lines += ["", f"#### {title[0].upper()}{title[1:]}"]
        for table in tables:
            lines += ["", *show.markdown(table)]
        lines += ["", *(f"- {line}" for line in more)]
    return lines


def grown(results: Results) -> list[str]:
    """Tables of the growth runs."""
    steps = results["growth"]
    tables = (growth.rows(steps), growth.service_rows(steps))
    return [how(results), *(line for table in tables for line in ("", *show.markdown(table)))]


def load_charts(results: Results) -> dict[str, str]:
    """Charts of CPU per request."""
    if not (found := results["loads"].get("saturation")):
        return {}
    shares = found["median"]["fleet"]["cpu_us_per_request"]
    rows = [Bar(name, shares[name]) for name in SERVICES if name in shares]
    return {"cpu-per-request.svg": bars("CPU per request at saturation", "µs, by service", rows)}


def compare_charts(results: Results) -> dict[str, str]:
    """Charts of the targets."""
    charts = {}
    if found := results["loads"].get("saturation"):
        rows = _by_way({name: run["per_second"] for name, run in found["median"].items() if name != "direct"})
        charts["requests-per-core.svg"] = bars("Requests per second on one core", "", rows, limit=WANTED_PER_SECOND)
    if found := results["loads"].get("paced"):
        rows = _by_way({name: figures["first_p50_ms"] for name, figures in found["added"].items()})
        title = "Added time to the first chunk, 50 paced streams"
        charts["time-to-first-chunk.svg"] = bars(title, "ms, p50", rows, limit=WANTED_FIRST_MS, digits=1)
    return charts


def _by_way(values: Mapping[str, float]) -> list[Bar]:
    return [Bar("Argosy" if name == "fleet" else name, value, ours=name == "fleet") for name, value in values.items()]


def growth_charts(results: Results) -> dict[str, str]:
    """Charts of CPU per request at each step, without megabyte bodies, which would dwarf the others."""
    steps = [step for step in results["growth"] if "1,024 KB" not in step["name"]]
    rows = [Bar(step["name"], step["median"]["cpu_us_per_request"]["all"]) for step in steps]
    return {"growth.svg": bars("CPU per request as everything grows", "µs, all services", rows)}


WRITERS: dict[str, Callable[[Results], list[str]]] = {"bench": loads, "compare": loads, "growth": grown}
CHARTS: dict[str, Callable[[Results], dict[str, str]]] = {
    "bench": load_charts,
    "compare": compare_charts,
    "growth": growth_charts,
}

if __name__ == "__main__":
    main()

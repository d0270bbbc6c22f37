"""Results as tables, for the terminal and for docs/benchmarks.md."""

from collections.abc import Iterable, Sequence
from typing import Any

Rows = list[tuple[str, ...]]
_LINES = {
    "per_second": ("requests/s", 0),
    "chunks_per_second": ("chunks/s", 0),
    "latency_p50_ms": ("latency p50, ms", 2),
    "latency_p99_ms": ("latency p99, ms", 2),
    "first_p50_ms": ("time to first chunk p50, ms", 2),
    "first_p99_ms": ("time to first chunk p99, ms", 2),
    "gap_p50_ms": ("gap between chunks p50, ms", 2),
    "gap_p99_ms": ("gap between chunks p99, ms", 2),
    "errors": ("errors", 0),
}
_SHARES = (
    ("cpu_us_per_request", "CPU µs per request", 0),
    ("cpu_us_per_chunk", "CPU µs per chunk", 1),
    ("memory_mb", "memory at most, MB", 0),
)
# The duration of a stream depends on its pace and length only.
_OF_COMPLETE_RESPONSES = ("per_second", "latency_p50_ms", "latency_p99_ms")


def number(value: float | None, digits: int) -> str:
    """Format a figure, with thousands separators."""
    return "–" if value is None else f"{value:,.{digits}f}"


def load_rows(result: dict[str, Any]) -> Rows:
    """A row for each figure of a load, a column for each target and for the difference to the direct one."""
    medians, more = result["median"], result["added"]
    names = list(medians)
    head = ["", *[column for name in names for column in _columns(name)]]
    rows: Rows = [tuple(head)]
    streamed = any("chunks" in figures for figures in medians.values())
    for figure, (label, digits) in _LINES.items():
        if not any(figure in medians[name] for name in names) or (streamed and figure in _OF_COMPLETE_RESPONSES):
            continue
        row = [label]
        for name in names:
            row.append(number(medians[name].get(figure), digits))
            if name != "direct":
                row.append(number(more[name].get(figure), digits) if figure in more[name] else "")
        rows.append(tuple(row))
    return rows


def _columns(name: str) -> list[str]:
    return [name] if name == "direct" else [name, "added"]


def share_rows(result: dict[str, Any], target: str = "fleet") -> Rows:
    """CPU and memory of a target: a row for each service."""
    figures = result["median"][target]
    found = [(key, label, digits) for key, label, digits in _SHARES if figures.get(key)]
    if not found:
        return []
    rows: Rows = [("", *[label for _, label, _ in found])]
    for name in figures[found[0][0]]:
        rows.append((name, *[number(figures[key].get(name), digits) for key, _, digits in found]))
    return rows


def idle_rows(result: dict[str, Any]) -> Rows:
    """Memory of silent streams."""
    rows: Rows = [("", "KB per stream")]
    return rows + [(name, number(size, 1)) for name, size in result["kb_per_stream"].items()]


def rest_rows(rest: dict[str, float]) -> Rows:
    """Memory when idle."""
    rows: Rows = [("", "memory, MB")]
    return rows + [(name, number(size, 0)) for name, size in rest.items()]


def sections(results: dict[str, Any]) -> Iterable[tuple[str, list[Rows], list[str]]]:
    """The sections of the results: title, tables, further lines."""
    if "rest" in results:
        yield "at rest", [rest_rows(results["rest"])], []
    if idle := results.get("idle"):
        summary = f"{idle['streams']:,} open, {idle['errors']} failed; CPU meanwhile {idle['cpu_percent_while_idle']} %"
        yield "idle streams", [idle_rows(idle)], [summary, *_problems(idle)]
    for result in results.get("loads", {}).values():
        tables, lines = [load_rows(result)], []
        for target in (name for name in result["median"] if name != "direct"):
            tables.append(share_rows(result, target))
            lines += [f"{target}: {line}" for line in _summary(result["median"][target])]
        lines += _problems(result["median"]["direct"]) if "direct" in result["median"] else []
        yield result["title"], [table for table in tables if table], lines


def _summary(figures: dict[str, Any]) -> list[str]:
    busy = figures["busy_percent"]
    cores = f"core 0 {busy['subject']:.0f} % busy, core 1 {busy['around']:.0f} %"
    lines = [f"{cores}; everything settled {figures['drain_seconds']:.1f} s after the load"]
    around = figures.get("around_us_per_request")
    if around:
        lines.append("around it, CPU µs per request: " + ", ".join(f"{n} {number(v, 0)}" for n, v in around.items()))
    if memory := figures.get("memory_over_time_mb"):
        lines.append("memory at the start, in the middle, at the end, MB: " + ", ".join(map(str, memory)))
    return lines + _problems(figures)


def _problems(figures: dict[str, Any]) -> list[str]:
    return [f"{count} × {problem}" for problem, count in figures.get("problems", {}).items()]


def heading(results: dict[str, Any]) -> list[str]:
    """The circumstances of the measurement."""
    summary = results["machine"]
    pinned = (
        "services on core 0, the rest on core 1" if summary["pinned"] else "NOT PINNED: one core, or no way to choose"
    )
    return [
        f"{summary['cpu']}, {summary['cores']} cores, {summary['memory_gb']} GB, Python {summary['python']}; {pinned}",
        f"{results['date']}, commit {results['commit']}: {results['command']}",
    ]


def text(results: dict[str, Any]) -> str:
    """All sections, for a terminal."""
    lines = heading(results)
    lines += [f"{target}: {features}" for target, features in results.get("ways", {}).items()]
    for title, tables, more in sections(results):
        lines += ["", title]
        for table in tables:
            lines += [*aligned(table), ""]
        lines += [f"  {line}" for line in more]
    return "\n".join(lines)


def aligned(rows: Rows) -> list[str]:
    """Align columns: the first to the left, figures to the right."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        f"  {row[0]:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def markdown(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows as a Markdown table."""
    head, *others = rows
    rule = "|---|" + "---:|" * (len(head) - 1)
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in others)]

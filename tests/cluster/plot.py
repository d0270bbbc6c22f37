"""Replicas against queue depth as SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 300, 46, 46, 46, 34
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; font-size: 15px; }
  .note { fill: #57606a; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .depth { fill: none; stroke: #8c959f; stroke-width: 1.5; }
  .replicas { fill: none; stroke: #0969da; stroke-width: 2; }
  .left { fill: #0969da; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .note { fill: #9198a1; } .grid { stroke: #30363d; } .depth { stroke: #9198a1; }
    .replicas { stroke: #4493f8; } .left { fill: #4493f8; }
  }
"""


class Sample(NamedTuple):
    """What was seen at a time, in seconds from the submission."""

    at: float
    replicas: int
    depth: int


def plot(title: str, samples: Sequence[Sample]) -> str:
    """Draw steps of replicas (left axis) and of unfinished jobs (right axis)."""
    seconds = max(samples[-1].at, 1.0)
    most, deepest = max(s.replicas for s in samples), max(1, *(s.depth for s in samples))
    peak = next(s for s in samples if s.replicas == most)
    label = (
        f"{title}: {samples[0].replicas} to {most} replicas after {peak.at:.0f} s, {samples[-1].replicas} at the end"
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="8" y="20">{escape(title)}</text>',
        f'<text class="left" x="8" y="{TOP - 8}">worker replicas</text>',
        f'<text class="note" x="{WIDTH - 8}" y="{TOP - 8}" text-anchor="end">unfinished jobs</text>',
    ]
    lines += [_row(number, most, deepest) for number in range(most + 1)]
    step = next(each for each in (30, 60, 120, 300, 600, 3_600) if seconds / each <= 10)
    for at in range(0, int(seconds) + 1, step):
        lines.append(
            f'<text class="note" x="{_x(at, seconds):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{at} s</text>'
        )
    lines.append(_steps("depth", [(s.at, s.depth / deepest) for s in samples], seconds))
    lines.append(_steps("replicas", [(s.at, s.replicas / most) for s in samples], seconds))
    return "\n".join([*lines, "</svg>", ""])


def _row(number: int, most: int, deepest: int) -> str:
    y = _y(number / most)
    return (
        f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        f'<text class="left" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number}</text>'
        f'<text class="note" x="{WIDTH - RIGHT + 8}" y="{y + 4:.1f}">{round(deepest * number / most)}</text>'
    )


def _steps(kind: str, points: Sequence[tuple[float, float]], seconds: float) -> str:
    path, before = "", 0.0
    for number, (at, share) in enumerate(points):
        x, y = _x(at, seconds), _y(share)
        path += f"M{x:.1f} {y:.1f}" if not number else f"H{x:.1f}" + (f"V{y:.1f}" if share != before else "")
        before = share
    return f'<path class="{kind}" d="{path}"/>'


def _x(at: float, seconds: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at / seconds


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

"""Horizontal bars as SVG, readable on light and dark pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT = 720, 230, 90
_ROW, _BAR, _TOP, _BOTTOM = 28, 18, 44, 14
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; font-size: 15px; }
  .note { fill: #57606a; }
  .bar { fill: #8c959f; }
  .ours { fill: #0969da; }
  .limit { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 4 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .note { fill: #9198a1; } .bar { fill: #656c76; } .ours { fill: #4493f8; }
    .limit { stroke: #f85149; }
  }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `ours` have the accent colour."""

    label: str
    value: float
    ours: bool = True


def bars(title: str, unit: str, rows: Sequence[Bar], *, limit: float | None = None, digits: int = 0) -> str:
    """Draw bars that start at zero, with a line at `limit` if there is one."""
    longest = max([row.value for row in rows] + [limit or 0.0, 1e-9])
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    height = _TOP + _ROW * len(rows) + _BOTTOM
    described = ", ".join(f"{row.label} {row.value:,.{digits}f}" for row in rows)
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    label = escape(f"{title}, {unit}: {described}")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="8" y="22">{escape(title)}<tspan class="note" dx="8">{escape(unit)}</tspan></text>',
    ]
    for number, row in enumerate(rows):
        lines += _row(row, _TOP + _ROW * number, scale, digits)
    if limit is not None:
        at = _LEFT + limit * scale
        lines.append(f'<line class="limit" x1="{at:.1f}" y1="{_TOP - 6}" x2="{at:.1f}" y2="{height - _BOTTOM}"/>')
        lines.append(f'<text class="note" x="{at:.1f}" y="{_TOP - 10}" text-anchor="middle">{limit:,.{digits}f}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _row(row: Bar, top: int, scale: float, digits: int) -> list[str]:
    width = max(row.value * scale, 1.0)
    middle = top + _BAR / 2 + 4.5
    kind = "bar ours" if row.ours else "bar"
    return [
        f'<text x="{_LEFT - 8}" y="{middle}" text-anchor="end">{escape(row.label)}</text>',
        f'<rect class="{kind}" x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
        f'<text x="{_LEFT + width + 6:.1f}" y="{middle}">{row.value:,.{digits}f}</text>',
    ]

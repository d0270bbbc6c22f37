"""Tables of variables and outputs for the READMEs in `terraform/`, and of an environment's costs.

It reads files as `terraform fmt` writes them: a block begins at the margin and ends with a brace there.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

HOURS = Decimal(730)
"""Of a month, as the bills of clouds count them."""
BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)


def attribute(body: str, name: str) -> str:
    """Return the text of an attribute of a block in one line, or nothing."""
    match = re.search(rf"^  {name} += (.*?)(?=^  \w|^\n|\Z)", body, re.MULTILINE | re.DOTALL)
    return " ".join(match.group(1).split()) if match else ""


def blocks(folder: Path, kind: str) -> Iterator[tuple[str, str]]:
    file = folder / f"{kind}s.tf"
    for match in BLOCK.finditer(file.read_text() if file.exists() else ""):
        yield match.group(2), match.group(3)


def title(folder: Path) -> str:
    """Return the first comment of main.tf, which says what the module is."""
    lines = []
    for line in (folder / "main.tf").read_text().splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(lines)


def tables(folder: Path) -> str:
    lines = [f"# {folder.name}", "", title(folder), "", "| Variable | Type | Default | Meaning |", "|---|---|---|---|"]
    for name, body in blocks(folder, "variable"):
        default = attribute(body, "default")
        shown = f"`{default}`" if default else "required"
        lines.append(f"| `{name}` | `{attribute(body, 'type')}` | {shown} | {_description(body)} |")
    lines += ["", "| Output | Meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_description(body)} |" for name, body in blocks(folder, "output")]
    return "\n".join([*lines, *_costs(folder)]) + "\n"


def write_all(root: Path, *, check: bool) -> list[str]:
    """Return the stale READMEs below `root`, and write them unless `check`."""
    stale = []
    for file in sorted(root.glob("*/*/main.tf")):
        if file.parent.parent.name not in {"modules", "environments"}:
            continue
        readme, text = file.parent / "README.md", tables(file.parent)
        if not readme.exists() or readme.read_text() != text:
            stale.append(str(readme.relative_to(root.parent)))
            if not check:
                readme.write_text(text)
    return stale


def costs(folder: Path) -> list[tuple[str, Decimal, Decimal, str, str]]:
    """Return item, quantity, price in US dollars, unit and source of each line of costs.tsv.

    Raises ValueError for a line with another number of columns.
    """
    lines = [line for line in (folder / "costs.tsv").read_text().splitlines() if line and not line.startswith("#")]
    parts = [line.split("\t") for line in lines[1:]]  # the first has the names
    return [(item, Decimal(count), Decimal(price), unit, source) for item, count, price, unit, source in parts]


def _costs(folder: Path) -> list[str]:
    if not (folder / "costs.tsv").exists():
        return []
    intro = next(line for line in (folder / "costs.tsv").read_text().splitlines() if line.startswith("# "))
    lines = ["", "## What it costs", intro.removeprefix("# "), ""]
    lines += ["| Item | Quantity | Price, US$ | A month, US$ | Source |", "|---|---|---|---|---|"]
    total = Decimal(0)
    for item, count, price, unit, source in costs(folder):
        month = count * price * (HOURS if unit == "hour" else 1)
        total += month
        lines.append(f"| {item} | {count} | {price} per {unit} | {month:,.0f} | {source} |")
    return [*lines, f"| **Sum** | | | **{total:,.0f}** | |"]


def _description(body: str) -> str:
    return attribute(body, "description").strip('"').replace('\\"', '"').replace("|", "\\|")

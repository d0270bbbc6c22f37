"""Each promise about jobs names tests that exist."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "jobs.md"
TEST_LINK = re.compile(r"\[(test_\w+)\]\(([^)]+)\)")


def test_every_promise_names_a_test_that_exists() -> None:
    table = PAGE.read_text().split("## Promises, and their tests")[1].split("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ")][1:]

    assert len(rows) > 10
    for row in rows:
        named = TEST_LINK.findall(row)
        assert named, f"no test: {row}"
        for name, path in named:
            assert re.search(rf"def {name}\b", (PAGE.parent / path).read_text()), f"{path} has no {name}"

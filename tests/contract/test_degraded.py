"""docs/degraded.md is what tests show, all of it and nothing else."""

from pathlib import Path

import pytest

from scripts.degraded import AREAS, PAGE, PARTS, Promise, promises, render

EVERYTHING = [
    Promise(part, area, f"{part} {area} holds", "tests/test_a.py", "test_a", 1) for part in PARTS for area in AREAS
]


def test_the_page_is_fresh_and_every_part_has_a_test_for_each_area() -> None:
    assert PAGE.read_text() == render(promises())


def test_a_part_without_a_test_is_refused() -> None:
    with pytest.raises(ValueError, match="no test has the marker degraded for: Kafka, jobs"):
        render([one for one in EVERYTHING if (one.down, one.area) != ("Kafka", "jobs")])


@pytest.mark.parametrize(
    "marker",
    ['down="Mars", area="sync", holds="x"', 'down="Kafka", area="all", holds="x"', 'down="Kafka", area="sync"'],
)
def test_a_marker_that_names_nothing_known_is_refused(tmp_path: Path, marker: str) -> None:
    path = tmp_path / "tests" / "test_a.py"
    path.parent.mkdir()
    path.write_text(f"import pytest\n\n\n@pytest.mark.degraded({marker})\ndef test_a() -> None: ...\n")

    with pytest.raises(ValueError, match=r"tests/test_a.py:4: "):
        promises(tmp_path)


def test_what_holds_links_to_its_test(tmp_path: Path) -> None:
    page = render(EVERYTHING)

    assert "| Kafka | Kafka sync holds | Kafka jobs holds | Kafka money holds |" in page
    assert "- Jobs: Kafka jobs holds. [test_a](../tests/test_a.py)" in page

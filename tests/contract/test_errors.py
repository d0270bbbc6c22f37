"""Every kind of error has a status on both wires; the reference page has exactly the errors that a client can get."""

import re

import pytest
from chassis import grpc, http
from chassis.errors import ArgosyError, Kind, declared_errors

from scripts.reference import PAGES, import_everything, is_public


@pytest.fixture(scope="module")
def errors() -> list[type[ArgosyError]]:
    import_everything()
    # Tests of this process may have declared errors too.
    return [error for error in declared_errors() if "test" not in error.__module__]


def test_every_kind_has_a_status_on_both_wires() -> None:
    assert set(http.STATUS) == set(grpc.STATUS) == set(Kind)


def test_a_reason_has_one_kind_in_the_whole_fleet(errors: list[type[ArgosyError]]) -> None:
    kinds: dict[str, set[Kind]] = {}
    for error in errors:
        kinds.setdefault(error.reason, set()).add(error.kind)
    assert {reason: kind for reason, kind in kinds.items() if len(kind) > 1} == {}


def test_the_reference_page_has_the_errors_of_clients_and_no_others(errors: list[type[ArgosyError]]) -> None:
    page, _, _ = (PAGES / "errors.md").read_text().partition("\n## ")
    listed = re.findall(r"^\| `([a-z0-9_]+)` \|", page, re.MULTILINE)

    assert len(set(listed)) == len(listed)
    assert set(listed) == {error.reason.lower() for error in errors if is_public(error)}

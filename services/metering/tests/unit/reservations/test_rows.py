"""Bounds and announced attempts as rows: what this version writes, and what the version before wrote and reads."""

import orjson
from metering.reservations.model import AnnouncedAttempt, Bound
from metering.reservations.postgres import attempts_to_json, bounds_to_json, json_to_attempts, json_to_bounds
from values.money import ClassPrices, NanoUsd
from values.usage import AbsentClasses, TokenDetails, TokenUsage, UsageSource

from services.metering.tests.examples import a_price, with_classes

FLAT = a_price()
CLASSED = with_classes(a_price(), ClassPrices(cached_input=NanoUsd(0), audio_input=NanoUsd(9_000_000)))
ABSENT = AbsentClasses(cache_writes=True, audio_input=False, audio_output=True)
USAGE = TokenUsage(UsageSource.REPORTED, 10, 5, TokenDetails(cached_input=4))


def test_bounds_survive_their_row_with_prices_of_classes_and_what_is_absent() -> None:
    bounds = (Bound(FLAT, 1, 2), Bound(CLASSED, 3, 4), Bound(CLASSED, 3, 4, ABSENT))

    assert json_to_bounds(bounds_to_json(bounds)) == bounds


def test_bounds_of_flat_prices_are_those_of_the_version_before() -> None:
    (row,) = orjson.loads(bounds_to_json([Bound(FLAT, 1, 2, ABSENT)]))

    assert not {"classes", "absent"} & row.keys()
    # With one price for all tokens the classes make no difference.
    assert json_to_bounds(orjson.dumps([row]).decode())[0].cost == Bound(FLAT, 1, 2, ABSENT).cost


def test_the_bounds_of_the_version_before_can_have_every_class() -> None:
    (row,) = orjson.loads(bounds_to_json([Bound(CLASSED, 3, 4, ABSENT)]))
    del row["classes"], row["absent"]
    (bound,) = json_to_bounds(orjson.dumps([row]).decode())

    assert bound.absent == AbsentClasses()
    assert bound.row.price.classes is None


def test_announced_usage_survives_its_row_and_the_version_before_reads_its_totals() -> None:
    attempts = (AnnouncedAttempt(1, 0, USAGE), AnnouncedAttempt(2, 0))
    text = attempts_to_json(attempts)

    assert json_to_attempts(text) == attempts
    first, second = orjson.loads(text)
    assert first["usage"] == ["reported", 10, 5]
    assert "details" not in second
    del first["details"]
    assert json_to_attempts(orjson.dumps([first]).decode())[0].usage == USAGE._replace(details=None)

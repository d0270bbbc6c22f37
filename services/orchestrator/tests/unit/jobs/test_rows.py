"""Records of runs as rows: what this version writes, and what the version before wrote and reads."""

import orjson
from orchestrator.jobs.rows import record_to_row, row_to_record, row_to_usage, usage_to_row
from orchestrator.reservations.attempts import AttemptsRecord
from orchestrator.reservations.model import Reservation, TokenBound
from orchestrator.usage.model import Attempt
from values.money import ClassPrices, NanoUsd, Price
from values.usage import NO_USAGE, ExposureCause, TokenDetails, TokenUsage, UsageSource

FLAT = Price("a/b", "prc_1", NanoUsd(1), NanoUsd(2))
CLASSED = FLAT._replace(classes=ClassPrices(cached_input=NanoUsd(0), audio_output=NanoUsd(9)))
USAGE = TokenUsage(UsageSource.REPORTED, 10, 5, TokenDetails(cached_input=4))
RECORD = AttemptsRecord(
    Reservation(NanoUsd(70), (CLASSED, FLAT), cheap=1),
    (TokenBound("a/b", 10, 5), TokenBound("a/b", 20, 5)),
    (Attempt(1, 0, USAGE), Attempt(2, 1, TokenUsage(UsageSource.UNKNOWN), ExposureCause.FLEET)),
    1,
    None,
    (Attempt(3, 1, NO_USAGE),),
)


def test_a_record_survives_its_row_with_its_classes_of_tokens() -> None:
    assert row_to_record(record_to_row(RECORD)) == RECORD


def test_the_row_of_the_version_before_is_read_without_classes_and_right_sizing() -> None:
    fields = orjson.loads(record_to_row(RECORD))
    del fields["class_prices"], fields["ended_details"], fields["cheap"]
    record = row_to_record(orjson.dumps(fields).decode())

    assert record is not None
    assert record.reservation.prices == (FLAT, FLAT)
    assert record.reservation.cheap == 0
    assert [one.usage.details for one in record.ended] == [None, None]


def test_the_version_before_finds_its_fields_where_they_were() -> None:
    fields = orjson.loads(record_to_row(RECORD))

    assert [len(one) for one in fields["prices"]] == [4, 4]
    assert [len(one) for one in fields["bounds"]] == [3, 3]
    assert [len(one[2]) for one in (*fields["ended"], *fields["unmade"])] == [3, 3, 3]
    assert row_to_usage(usage_to_row(USAGE)) == USAGE._replace(details=None)

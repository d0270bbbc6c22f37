"""Protobuf's own durations and timestamps."""

from datetime import UTC, datetime, timedelta

import pytest
from values.protos import duration_to_proto, proto_to_duration, proto_to_timestamp, timestamp_to_proto


def test_times_survive_the_wire_to_the_microsecond() -> None:
    length = timedelta(days=1, seconds=2, microseconds=3)
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)

    assert proto_to_duration(duration_to_proto(length)) == length
    assert proto_to_timestamp(timestamp_to_proto(moment)) == moment
    with pytest.raises(ValueError, match="zone"):
        timestamp_to_proto(datetime(2026, 1, 1))  # noqa: DTZ001

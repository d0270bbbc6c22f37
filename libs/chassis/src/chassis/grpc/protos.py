"""Conversions between protobuf's well-known types and the standard library's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def duration_to_proto(value: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(value)
    return message


def proto_to_duration(message: Duration) -> timedelta:
    """Convert; nanoseconds are truncated to microseconds."""
    return message.ToTimedelta()


def timestamp_to_proto(value: datetime) -> Timestamp:
    """Convert. Raises `ValueError` for a time without a zone, which protobuf would take for UTC."""
    if value.tzinfo is None:
        raise ValueError("a time without a zone")
    message = Timestamp()
    message.FromDatetime(value)
    return message


def proto_to_timestamp(message: Timestamp) -> datetime:
    """Convert to UTC; nanoseconds are truncated to microseconds."""
    return message.ToDatetime(tzinfo=UTC)

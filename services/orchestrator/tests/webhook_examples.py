"""Values for tests of webhooks."""

from datetime import UTC, datetime

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

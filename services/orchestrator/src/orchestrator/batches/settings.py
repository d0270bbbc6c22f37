"""Settings of batches."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from chassis.settings import Section
from pydantic import Field

from orchestrator.batches.create import BatchLimits
from orchestrator.batches.lines import FileLimits

Timeout = Annotated[timedelta, Field(gt=timedelta(0))]


class BatchesSection(Section):
    """Batches: files of requests that are answered within a day."""

    max_lines: int = Field(100_000, ge=1, le=1_000_000, description="The most requests of one batch.")
    max_line_bytes: int = Field(1_000_000, ge=1_000, le=15_000_000, description="The most bytes of one line.")
    max_file_bytes: int = Field(200_000_000, ge=1_000, description="The most bytes of a batch's file.")
    max_unfinished: int = Field(100, ge=1, description="The most batches of one tenant that are not final.")
    discount_percent: int = Field(
        0,
        ge=0,
        le=99,
        description="What is taken off the prices of requests in batches; the ledger names the discounted price.",
    )
    poll_interval: Timeout = Field(timedelta(milliseconds=500), description="Between two searches for due batches.")

    def batch_limits(self) -> BatchLimits:
        file = FileLimits(lines=self.max_lines, line_bytes=self.max_line_bytes)
        return BatchLimits(file, self.max_file_bytes, self.max_unfinished)

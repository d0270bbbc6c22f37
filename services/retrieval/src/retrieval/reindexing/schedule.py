"""Logs the files that cannot be indexed anew."""

from chassis.telemetry import logger

from retrieval.reindexing.rebuild import OutdatedFile

log = logger("retrieval.reindexing")


def log_failure(file: OutdatedFile, error: Exception, failures: int) -> None:
    """By its type only, as a message of Postgres may quote the text."""
    log.error(
        "reindexing_failed",
        tenant_id=file.tenant_id,
        vector_store_id=file.vector_store_id,
        attachment=file.attachment,
        failures=failures,
        error=type(error).__name__,
    )

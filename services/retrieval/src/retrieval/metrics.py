"""Everything that retrieval measures."""

from chassis.telemetry import counter, gauge, histogram

FILES = counter("retrieval_files_total", "Files stored and deleted.", ("event",))
UPLOADED_BYTES = counter("retrieval_uploaded_bytes_total", "Bytes of stored files.")
INGESTS = counter(
    "retrieval_ingests_total",
    "Runs over one attached file: completed, failed, postponed or lost to another.",
    ("outcome",),
)
REFUSALS = counter("retrieval_refusals_total", "Attachments that failed for good, by reason.", ("reason",))
CHUNKS = counter("retrieval_chunks_total", "Chunks stored, with a new vector or one of equal text.", ("vector",))
INGEST_SECONDS = histogram(
    "retrieval_ingest_seconds",
    "Duration of completed runs over one file.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800),
)
BACKLOG = gauge("retrieval_backlog", "Attached files that wait in this process to be indexed.")
SEARCH_SECONDS = histogram("retrieval_search_seconds", "Duration of answered searches, the query's embedding included.")
REMOVALS = counter("retrieval_removals_total", "Objects and indexed files that were removed for good.")

"""Metrics of retrieval."""

from chassis.telemetry import counter, gauge, histogram

FILES = counter("retrieval_files_total", "Files stored and deleted.", ("event",))
UPLOADED_BYTES = counter("retrieval_uploaded_bytes_total", "Bytes of stored files.")
UPLOADS_REFUSED = counter(
    "retrieval_uploads_refused_total",
    'Uploads refused because too many are in flight, by scope: "process" or "key", a tenant.',
    ("scope",),
)
INGESTION_RUNS = counter(
    "retrieval_ingestion_runs_total",
    "Runs over one attached file: completed, failed, postponed, or lost to another process.",
    ("outcome",),
)
INGESTION_FAILURES = counter("retrieval_ingestion_failures_total", "Attachments that failed, by reason.", ("reason",))
INGESTION_SECONDS = histogram(
    "retrieval_ingestion_seconds",
    "Duration of completed runs over one file.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800),
)
INGESTION_QUEUE_SIZE = gauge("retrieval_ingestion_queue_size", "Attached files that wait in this process.")
CHUNKS = counter("retrieval_chunks_total", "Chunks stored, with a new vector or one of equal text.", ("vector",))
SEARCH_SECONDS = histogram("retrieval_search_seconds", "Duration of successful searches, with the query's embedding.")
RERANKED_SEARCHES = counter(
    "retrieval_reranked_searches_total",
    "Searches with a reranker by outcome: done, skipped (it failed, or was late), no_budget.",
    ("outcome",),
)
REINDEXED_FILES = counter(
    "retrieval_reindexed_files_total", "Files whose keywords were indexed anew because the rules had changed."
)
MIGRATION_RUNS = counter(
    "retrieval_store_migration_runs_total",
    "Runs over a store's migration to another embedding model: completed, failed, postponed, or lost.",
    ("outcome",),
)
MIGRATED_CHUNKS = counter(
    "retrieval_store_migration_chunks_total",
    "Vectors stored by migrations: embedded anew, or reused from equal text.",
    ("vector",),
)
DELETIONS = counter("retrieval_deletions_total", "Objects and attachments whose deletion was completed.")
EXPIRED_STORES = counter("retrieval_expired_stores_total", "Vector stores that were emptied because they expired.")
CACHED_PROMPT_SECONDS = histogram(
    "retrieval_cached_prompt_seconds", "Duration of successful searches for cached prompts, with the embedding."
)
CACHED_PROMPTS_EXPIRED = counter(
    "retrieval_cached_prompts_expired_total", "Cached prompts deleted after their lifetime."
)

"""Every metric of the inference worker. No label names a tenant or a model: upstreams are few, models are not."""

from chassis.telemetry import counter, gauge, histogram

ATTEMPTS = counter(
    "inference_worker_attempts_total",
    "Provider calls by outcome: succeeded, rejected, interrupted, cancelled, timed_out.",
    ("upstream", "outcome"),
)
PASSED_OVER = counter(
    "inference_worker_passed_over_total",
    "Requests whose first candidate was not called: its circuit is open, or no credential works.",
    ("upstream",),
)
ACCOUNT_REFUSALS = counter(
    "inference_worker_account_refusals_total",
    "Provider calls that were refused because of our credential, or because our account is empty.",
    ("upstream",),
)
OPEN_CIRCUITS = gauge(
    "inference_worker_open_circuits", "Circuits that are open or half open, by upstream.", ("upstream",)
)
RESTING_CIRCUITS = gauge(
    "inference_worker_resting_circuits",
    "Credentials with a model that are not called because the provider limits their rate or refuses them.",
    ("upstream",),
)
FIRST_BYTE_SECONDS = histogram(
    "inference_worker_first_byte_seconds",
    "Time from sending a request to the first byte of its response.",
    ("upstream",),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
TOKENS = counter(
    "inference_worker_tokens_total",
    "Tokens by direction (input, output) and by source (reported, counted).",
    ("upstream", "direction", "source"),
)
UNKNOWN_USAGE = counter(
    "inference_worker_unknown_usage_total",
    "Provider calls that may have been billed, and whose usage is unknown.",
    ("upstream",),
)
EMBED_TEXTS = counter("inference_worker_embed_texts_total", "Texts in embedding requests.")
RERANK_SECONDS = histogram("inference_worker_rerank_seconds", "Time of one request for scores of documents.")
RERANK_DOCUMENTS = counter("inference_worker_rerank_documents_total", "Documents that scores were asked for.")
EMBED_SECONDS = histogram("inference_worker_embed_seconds", "Time to embed the texts of one call, over all attempts.")
IN_FLIGHT = gauge("inference_worker_in_flight", "Plans and embeddings that are running.")
REJECTED = counter(
    "inference_worker_rejected_total", "Plans and embeddings that were rejected because the worker was at capacity."
)
JOBS_CLAIMED = counter(
    "inference_worker_jobs_claimed_total",
    "Dispatched jobs by what their claim answered: claimed, no_work, not_claimable.",
    ("outcome",),
)
JOBS_ENDED = counter(
    "inference_worker_jobs_ended_total",
    "Runs of jobs by their end: succeeded, failed, cancelled, returned, lost, unreported.",
    ("end",),
)
JOB_SLOTS = gauge("inference_worker_job_slots", "Jobs that this worker may run at once; 0 while it drains.")
JOB_SLOTS_USED = gauge("inference_worker_job_slots_used", "Jobs that are being claimed, run or reported.")
JOB_CLAIM_SECONDS = histogram("inference_worker_job_claim_seconds", "Time from asking for a job to having it.")
JOB_DISPATCH_SECONDS = histogram(
    "inference_worker_job_dispatch_seconds", "Time from a job's dispatch to the end of its claim.", ("lane",)
)
JOB_SECONDS = histogram(
    "inference_worker_job_seconds",
    "Time from asking for a job to the acknowledgement of its end.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
JOB_DELTAS_DROPPED = counter(
    "inference_worker_job_deltas_dropped_total", "Live chunks of jobs that Redis did not take; the answers are whole."
)
UPSTREAMS_VERSION = gauge(
    "inference_worker_upstreams_version", "Version of the configuration whose upstreams are in force; 0: none was read."
)
MANAGED_UPSTREAMS = gauge("inference_worker_managed_upstreams", "Upstreams in force that the API has declared.")
UNREADABLE_CREDENTIALS = gauge(
    "inference_worker_unreadable_credentials",
    "Sealed credentials that do not open: their key is not configured, or the row was moved or changed.",
)
PROCESS_RESTARTS = gauge(
    "inference_worker_process_restarts",
    "Times that a signal killed the process that serves, and its parent replaced it, since the container started.",
)

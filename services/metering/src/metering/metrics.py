"""The metrics of metering. No label names a tenant: GetUsage answers what one tenant did."""

from chassis.telemetry import counter, gauge, histogram

RESERVATIONS = counter(
    "metering_reservations_total",
    "Reserve calls by outcome: held, repeated, or the reason of the error in lower case.",
    ("outcome",),
)
STARTED_ATTEMPTS = counter(
    "metering_started_attempts_total",
    "StartAttempt calls by outcome: started, or the reason of the error in lower case.",
    ("outcome",),
)
RESERVE_BATCH = histogram(
    "metering_reserve_batch_items",
    "Reservations per transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
RESERVE_SECONDS = histogram(
    "metering_reserve_seconds",
    "Time of such a transaction, from taking a connection to the commit.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
PRICE_INVALIDATIONS = counter(
    "metering_price_invalidations_total",
    "Messages that invalidate cached prices: published, publish_failed, or received.",
    ("event",),
)
EVENTS = counter(
    "metering_usage_events_total",
    "Usage events by settlement case: settled, repeated, late, unreserved, or added.",
    ("outcome",),
)
SETTLEMENTS = counter(
    "metering_settlements_total",
    "Settled provider calls by outcome: billed, released, or exposed.",
    ("outcome",),
)
EXPOSED = counter(
    "metering_exposed_nano_usd_total",
    "Cost that was not paid, in nano-USD, when it was first posted, by cause: provider, client, or fleet.",
    ("cause",),
)
CLAMPED = counter(
    "metering_clamped_usage_total",
    "Settled provider calls whose reported usage exceeded the bound of their reservation, and was taken at the bound.",
)
SETTLE_BATCH = histogram(
    "metering_settle_batch_events",
    "Usage events per transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
SETTLE_SECONDS = histogram(
    "metering_settle_seconds",
    "Time of such a transaction, from taking a connection to the commit.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
SETTLE_LAG_SECONDS = gauge(
    "metering_settle_lag_seconds",
    "Age of the newest usage event of the last batch when its settlement was committed.",
)
EXPIRED = counter(
    "metering_expired_reservations_total",
    "Reservations that the sweeper expired because their lease was over.",
)
OVERDUE = gauge(
    "metering_overdue_reservations",
    "Reservations of the last sweep whose lease is over and that must not be expired yet: the orchestrator or Kafka "
    "does not answer, or usage events wait. At most one batch of the sweeper.",
)
EXTENDED = counter(
    "metering_extended_leases_total",
    "Leases that the sweeper extended because the orchestrator still knows the request.",
)
AUDIT_AGE_SECONDS = gauge(
    "metering_ledger_audit_age_seconds",
    "Seconds since the ledger and the budgets were last audited, or since the start.",
)
IMBALANCE = gauge(
    "metering_ledger_imbalance_nano_usd",
    "Sum of the absolute sums of recent ledger transactions. Anything but 0 is a bug.",
)
DRIFT = gauge(
    "metering_budget_drift_nano_usd",
    "Sum of the differences between budgets and their held reservations and open exposures. Anything but 0 is a bug.",
)
HELD = gauge("metering_held_nano_usd", "Held now, over all tenants, in nano-USD.")
BUDGET_EXPOSED = gauge(
    "metering_budget_exposed_nano_usd", "Exposure that counts against caps now, over all tenants, in nano-USD."
)
SPENT = gauge("metering_spent_nano_usd", "Settled so far, over all tenants, in nano-USD.")

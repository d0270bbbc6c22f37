"""Every metric of metering. No label names a tenant: what one tenant did is in the books."""

from __future__ import annotations

from chassis.telemetry import counter, gauge, histogram

RESERVATIONS = counter(
    "metering_reservations_total",
    "Answers to Reserve: held, repeated, or the reason of the refusal in lower case.",
    ("outcome",),
)
RESERVE_BATCH = histogram(
    "metering_reserve_batch_items",
    "Reservations decided by one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
RESERVE_SECONDS = histogram(
    "metering_reserve_seconds",
    "Time of one such transaction, from taking a connection to the commit.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
PRICE_NEWS = counter(
    "metering_price_news_total",
    "New prices by what was heard of them over Redis: announced, unannounced (Redis did not take it), or heard.",
    ("event",),
)
EVENTS = counter(
    "metering_usage_events_total",
    "Usage events by what they meant: settled, repeated, late, unreserved, added, or buried.",
    ("outcome",),
)
SETTLEMENTS = counter(
    "metering_settlements_total",
    "Ends of provider calls: billed, released, exposed.",
    ("outcome",),
)
EXPOSED = counter(
    "metering_exposed_nano_usd_total",
    "What the house may have to bear itself, in nano-USD, as it was first booked: by a settlement or an expiry.",
    ("cause",),
)
SETTLE_BATCH = histogram(
    "metering_settle_batch_events",
    "Usage events settled by one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
SETTLE_SECONDS = histogram(
    "metering_settle_seconds",
    "Time of one such transaction, from taking a connection to the commit.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
SETTLE_LAG_SECONDS = gauge(
    "metering_settle_lag_seconds",
    "Age of the newest usage event of the last batch when its settlement was committed.",
)
EXPIRED = counter(
    "metering_expired_reservations_total",
    "Holds given back by the sweeper because their lease ran out.",
)
IMBALANCE = gauge(
    "metering_ledger_imbalance_nano_usd",
    "Sum of the absolute sums of recent ledger transactions. Anything but 0 is a bug.",
)
DRIFT = gauge(
    "metering_budget_drift_nano_usd",
    "How far budgets and the reservations they hold are apart. Anything but 0 is a bug.",
)
HELD = gauge("metering_held_nano_usd", "Set aside now, over all tenants, in nano-USD.")
SPENT = gauge("metering_spent_nano_usd", "Settled so far, over all tenants, in nano-USD.")

"""Errors of jobs. Their reasons are part of the public API."""

from chassis.errors import ArgosyError, Kind


class JobNotFound(ArgosyError):
    """The tenant has no such job: it never existed, or its result has expired."""

    kind, reason = Kind.NOT_FOUND, "JOB_NOT_FOUND"


class JobFinished(ArgosyError):
    """The job has reached its final state, so it cannot be cancelled any more."""

    kind, reason = Kind.CONFLICT, "JOB_FINISHED"


class JobIdReused(ArgosyError):
    """A job of this id exists, with another request."""

    kind, reason = Kind.CONFLICT, "JOB_ID_REUSED"


class JobLeaseLost(ArgosyError):
    """The run is no longer this worker's: the job was queued or claimed again, or it ended. Reports are ignored."""

    kind, reason = Kind.CONFLICT, "JOB_LEASE_LOST"


class JobNotClaimable(ArgosyError):
    """The dispatch is outdated: the job was claimed, dispatched anew, cancelled, or it is finished. Drop the record."""

    kind, reason = Kind.CONFLICT, "JOB_NOT_CLAIMABLE"


class JobNotQuarantined(ArgosyError):
    """Only a quarantined job can be retried or dropped by an operator."""

    kind, reason = Kind.CONFLICT, "JOB_NOT_QUARANTINED"


class JobDeadlineExceeded(ArgosyError):
    """The job had not finished by its deadline; the message has the error of its last run."""

    kind, reason = Kind.TIMED_OUT, "JOB_DEADLINE_EXCEEDED"


class JobResultTooLarge(ArgosyError):
    """The vectors of the job take more than 32 MiB, or more than 96 MiB as text.

    Ask for `encoding_format` base64, for fewer texts, or for fewer dimensions.
    """

    kind, reason = Kind.TOO_LARGE, "JOB_RESULT_TOO_LARGE"


class JobDropped(ArgosyError):
    """The job's workers died too often, and an operator gave it up."""

    kind, reason = Kind.INTERNAL, "JOB_DROPPED"


class WorkerDied(ArgosyError):
    """The worker that ran the job died, or lost contact. The job runs again; after some deaths an operator decides."""

    kind, reason = Kind.UNAVAILABLE, "WORKER_DIED"


class QueueFull(ArgosyError):
    """The tenant has as many waiting jobs as its plan allows; submit again when some have run."""

    kind, reason = Kind.THROTTLED, "QUEUE_FULL"


class LaneNotAllowed(ArgosyError):
    """A job may lower the lane of its tenant's plan, not raise it."""

    kind, reason = Kind.DENIED, "LANE_NOT_ALLOWED"


class EndpointNotSupported(ArgosyError):
    """No job can be made of this endpoint; `/v1/chat/completions` and `/v1/embeddings` can."""

    kind, reason = Kind.INVALID, "ENDPOINT_NOT_SUPPORTED"

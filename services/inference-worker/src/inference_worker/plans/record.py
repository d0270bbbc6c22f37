"""What the record of an attempt says of the error that ended it."""

from values.usage import ExposureCause

from inference_worker.plans.model import AttemptOutcome, Draining, Stopped
from inference_worker.providers.model import Blame, UpstreamFailed, UpstreamTimedOut

REFUSALS = frozenset({Blame.CONTEXT, Blame.CONTENT})


def exposure_cause(error: UpstreamFailed | Stopped | None) -> ExposureCause:
    """Return whose doing it is that the usage of an attempt that ended with `error` is not known."""
    if isinstance(error, Draining):
        return ExposureCause.FLEET
    return ExposureCause.CLIENT if isinstance(error, Stopped) else ExposureCause.PROVIDER


def is_request_refused(error: UpstreamFailed | Stopped | None) -> bool:
    """Whether the upstream refused what the request says or how long it is, which tells nothing of the upstream."""
    return isinstance(error, UpstreamFailed) and error.blame in REFUSALS


def failed_outcome(error: UpstreamFailed) -> AttemptOutcome:
    """Return the outcome of a call that failed before a byte of its response."""
    if not error.maybe_billed:
        return AttemptOutcome.REJECTED
    return AttemptOutcome.TIMED_OUT if isinstance(error, UpstreamTimedOut) else AttemptOutcome.INTERRUPTED

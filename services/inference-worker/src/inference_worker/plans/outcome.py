"""What the end of a provider call tells about its circuit."""

from inference_worker.plans.attempt import RunningAttempt
from inference_worker.plans.choose import Call
from inference_worker.plans.model import Stopped
from inference_worker.providers.model import Blame, UpstreamAccountUnavailable, UpstreamFailed, UpstreamTimedOut


def record_outcome(call: Call, running: RunningAttempt, error: UpstreamFailed | Stopped, now: float) -> None:
    """Record the failure of a call. That an answer began was recorded before."""
    if isinstance(error, Stopped) or running.impatient:
        call.circuit.abandoned(call.ticket)
    else:
        hung = isinstance(error, UpstreamTimedOut) and not running.first_byte_seconds
        record_failure(call, error, now, hung=hung)


def about_own_credential(error: UpstreamFailed | Stopped) -> UpstreamFailed | Stopped:
    """Say of a refused credential that the tenant brought it: the operator cannot mend it, and is not told."""
    if isinstance(error, UpstreamAccountUnavailable):
        error.own_credential = True
        error.message = "the upstream refused the credential that you brought, or its account is empty"
    return error


def record_failure(call: Call, error: UpstreamFailed, now: float, *, hung: bool = False) -> None:
    """Record an error of the provider; `hung` when it sent nothing in time."""
    circuit, ticket = call.circuit, call.ticket
    match error.blame:
        case Blame.RATE:
            wait = error.retry_after.total_seconds() if error.retry_after is not None else None
            circuit.rate_limited(now, wait, ticket)
        case Blame.ACCOUNT if isinstance(error, UpstreamAccountUnavailable) and error.account_wide:
            circuit.account_refused(now, ticket)
        case Blame.ACCOUNT | Blame.UPSTREAM | Blame.ANSWER:
            circuit.failed(now, ticket, hung=hung)
        case Blame.WORKER:
            circuit.abandoned(ticket)
        case _:
            circuit.succeeded(now, ticket)

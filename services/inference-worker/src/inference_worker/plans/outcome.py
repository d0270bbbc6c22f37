"""What the end of a provider call tells about its circuit."""

from inference_worker.plans.attempt import RunningAttempt
from inference_worker.plans.choose import Call
from inference_worker.plans.model import Stopped
from inference_worker.providers.model import Blame, UpstreamAccountUnavailable, UpstreamFailed


def record_outcome(call: Call, running: RunningAttempt, error: UpstreamFailed | Stopped, now: float) -> None:
    """Record the failure of a call. That an answer began was recorded before."""
    # The success of a probe has closed its circuit already.
    probe = call.probe and not running.committed
    if isinstance(error, Stopped) or running.impatient:
        call.circuit.abandoned(probe=probe)
    else:
        record_failure(call, error, now, probe=probe)


def about_own_credential(error: UpstreamFailed | Stopped) -> UpstreamFailed | Stopped:
    """Say of a refused credential that the tenant brought it: the operator cannot mend it, and is not told."""
    if isinstance(error, UpstreamAccountUnavailable):
        error.own_credential = True
        error.message = "the upstream refused the credential that you brought, or its account is empty"
    return error


def record_failure(call: Call, error: UpstreamFailed, now: float, *, probe: bool) -> None:
    """Record an error of the provider."""
    circuit = call.circuit
    match error.blame:
        case Blame.RATE:
            wait = error.retry_after.total_seconds() if error.retry_after is not None else None
            circuit.rate_limited(now, wait, probe=probe)
        case Blame.ACCOUNT if isinstance(error, UpstreamAccountUnavailable) and error.account_wide:
            circuit.account_refused(now, probe=probe)
        case Blame.ACCOUNT | Blame.UPSTREAM | Blame.ANSWER:
            circuit.failed(now, probe=probe)
        case _:
            circuit.succeeded(now, probe=probe)

"""Chooses the next provider call of a plan: which candidate, with which credential, and after which wait."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple
from zlib import crc32

from chassis.tenancy import find_caller

from inference_worker.breakers.circuit import Circuit
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.counts import Ticket
from inference_worker.breakers.model import Block, BlockReason
from inference_worker.plans.model import Candidate, CandidateRole
from inference_worker.providers.credentials import ALL_TENANTS, Credential
from inference_worker.providers.model import (
    Blame,
    UpstreamAccountUnavailable,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from inference_worker.providers.ports import Upstream, Upstreams
from inference_worker.providers.unavailable import UNKNOWN_UPSTREAM

MAX_CALLS = 12
"""Provider calls of one plan, however many candidates and credentials there are."""

NO_CREDENTIAL_ID = "default"
_WITHOUT: Final = (None,)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries of a call that failed, beside the next credentials and candidates. Times are in seconds."""

    retries: int = 0
    """Of each candidate."""
    min_backoff: float = 0.1
    max_backoff: float = 2.0
    """The provider may ask for a wait up to this; after a longer one the next candidate is tried instead."""


class Call(NamedTuple):
    """A provider call that may be made now."""

    place: int
    """Of its candidate."""
    candidate: Candidate
    upstream: Upstream
    credential: Credential | None
    """None for an upstream without any."""
    circuit: Circuit
    ticket: Ticket
    """The circuit needs its outcome."""
    wait: float = 0.0
    """Seconds before it."""

    @property
    def credential_id(self) -> str:
        return _id_of(self.credential)

    @property
    def own_credential(self) -> bool:
        """Whether the tenant brought the credential."""
        return _is_own(self.credential)


class Choice:
    """The choice for one plan. Only open circuits, credentials that rest, and what was tried stand against a call."""

    __slots__ = ("_blocks", "_calls", "_candidates", "_circuits", "_last", "_now", "_own", "_policy", "_tenant_id",
                 "_tries", "_uniform", "_upstreams", "_used")  # fmt: skip

    def __init__(
        self,
        candidates: Sequence[Candidate],
        upstreams: Upstreams,
        circuits: Circuits,
        now: Callable[[], float],
        *,
        policy: RetryPolicy,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._candidates = candidates
        self._upstreams = upstreams
        self._circuits = circuits
        self._now = now
        self._policy = policy
        caller = find_caller()
        self._tenant_id = caller.principal.tenant_id if caller is not None else ""
        self._uniform = uniform
        self._last: Call | None = None
        self._calls = 0
        self._tries = 0
        self._used: set[tuple[int, str]] = set()
        self._blocks: list[Block] = []
        self._own = False

    @property
    def calls(self) -> int:
        """How many calls were chosen."""
        return self._calls

    def first(self) -> Call | None:
        """Return the call of the first candidate; None when it is passed over."""
        return self._begin(0)

    def next_candidate(self) -> Call | None:
        """Return a call of the next candidate in the order of the plan that is not passed over."""
        last = self._last
        role = last.candidate.role if last is not None else CandidateRole.PRIMARY
        return self._first_of(role, last.place + 1 if last is not None else 1)

    def after(self, error: UpstreamFailed) -> Call | None:
        """Return the call to make after one that failed before its answer began; None when the plan is over."""
        last = self._last
        if last is None or self._calls >= MAX_CALLS:
            return None
        match error.blame:
            case Blame.CONTEXT:
                declared = any(one.role is CandidateRole.CONTEXT_OVERFLOW for one in self._candidates)
                # Without candidates for that, the next one may have a longer context.
                return self._fallback(CandidateRole.CONTEXT_OVERFLOW) if declared else self.next_candidate()
            case Blame.CONTENT:
                return self._fallback(CandidateRole.CONTENT_POLICY)
        if not error.fallback:
            return None
        if error.blame in {Blame.ACCOUNT, Blame.RATE}:
            return self._admit(last.place, unused=True) or self.next_candidate()
        if error.blame is Blame.UPSTREAM:
            return self._retry(error, last) or self.next_candidate()
        return self.next_candidate()

    def has_other_account(self, error: UpstreamFailed) -> bool:
        """Whether the same candidate has a credential that was not tried, after an error that is about one."""
        last, now = self._last, self._now()
        if last is None or error.blame not in {Blame.ACCOUNT, Blame.RATE}:
            return False
        name, model = last.candidate.upstream, last.candidate.model
        return any(
            _id_of(credential) != last.credential_id
            and self._circuits.circuit(name, _id_of(credential), model).block(now, self._tenant_id) is None
            for credential in _in_order(last.upstream, self._tenant_id, None)
        )

    def refusal(self) -> UpstreamFailed:
        """Return the error of a plan for which no call could be made: the mildest of the reasons, the shortest wait."""
        waits: dict[BlockReason, list[float]] = {reason: [] for reason in BlockReason}
        for block in self._blocks:
            waits[block.reason].append(block.until)
        now = self._now()

        def wait(until: list[float]) -> timedelta:
            return timedelta(seconds=max(0.1, min(until) - now))

        if waits[BlockReason.OPEN]:
            both = waits[BlockReason.OPEN] + waits[BlockReason.RATE_LIMITED]
            return UpstreamUnavailable("no upstream of this model works at the moment", retry_after=wait(both))
        if waits[BlockReason.RATE_LIMITED]:
            limited = waits[BlockReason.RATE_LIMITED]
            return UpstreamRateLimited("the upstream limits its rate", retry_after=wait(limited))
        if not waits[BlockReason.ACCOUNT]:
            return UpstreamAccountUnavailable("the operator has no credential for the upstream")
        whose = "the credentials that you brought" if self._own else "the operator's credentials"
        return UpstreamAccountUnavailable(f"the upstream refuses {whose}")

    def give_back(self) -> None:
        """Let another call be the probe that the last one was to be: it is not made."""
        if self._last is not None:
            self._last.circuit.abandoned(self._last.ticket)

    def _fallback(self, role: CandidateRole) -> Call | None:
        last = self._last
        begin = last.place + 1 if last is not None and last.candidate.role is role else 1
        return self._first_of(role, begin)

    def _first_of(self, role: CandidateRole, begin: int) -> Call | None:
        for index in range(begin, len(self._candidates)):
            if self._candidates[index].role is role and (call := self._begin(index)) is not None:
                return call
        return None

    def _begin(self, index: int) -> Call | None:
        self._tries = 0
        call = self._admit(index)
        if call is not None:
            self._circuits.budget(call.candidate.upstream).deposit()
        return call

    def _retry(self, error: UpstreamFailed, last: Call) -> Call | None:
        """Return the same call again after a random wait, within the budget."""
        stale = error.retry_same and not self._tries
        if not stale and self._tries >= self._policy.retries:
            return None
        wait = 0.0 if stale else self._backoff(error)
        if wait is None or last.circuit.block(self._now() + wait, self._tenant_id) is not None:
            return None
        budget = self._circuits.budget(last.candidate.upstream)
        if not budget.withdraw():
            return None
        self._tries += 1
        call = self._admit(last.place, prefer=last.credential_id)
        if call is None:
            budget.refund()
            return None
        self._last = call._replace(wait=wait)
        return self._last

    def _backoff(self, error: UpstreamFailed) -> float | None:
        policy = self._policy
        asked = error.retry_after.total_seconds() if error.retry_after is not None else 0.0
        if asked > policy.max_backoff:
            return None
        return asked + self._uniform(0.0, min(policy.max_backoff, policy.min_backoff * 2.0**self._tries))

    def _admit(self, index: int, *, unused: bool = False, prefer: str | None = None) -> Call | None:
        """Return a call of a candidate with the first credential that works; None when none does."""
        candidate = self._candidates[index]
        upstream = self._upstreams.get(candidate.upstream, UNKNOWN_UPSTREAM)
        now, tenant_id = self._now(), self._tenant_id
        for credential in _in_order(upstream, tenant_id, prefer):
            credential_id = _id_of(credential)
            if unused and (index, credential_id) in self._used:
                continue
            circuit = self._circuits.circuit(candidate.upstream, credential_id, candidate.model)
            ticket = circuit.admit(now, tenant_id)
            if ticket is None:
                block = circuit.block(now, tenant_id) or Block(BlockReason.OPEN, now + 1.0)
                self._blocks.append(block)
                self._own = self._own or (block.reason is BlockReason.ACCOUNT and _is_own(credential))
                continue
            self._used.add((index, credential_id))
            self._calls += 1
            self._last = Call(index, candidate, upstream, credential, circuit, ticket)
            return self._last
        return None


def _id_of(credential: Credential | None) -> str:
    return NO_CREDENTIAL_ID if credential is None else credential.credential_id


def _is_own(credential: Credential | None) -> bool:
    return credential is not None and credential.tenant_id != ALL_TENANTS


def _in_order(upstream: Upstream, tenant_id: str, prefer: str | None) -> Sequence[Credential | None]:
    """Return the credentials in the order to try them: each tenant begins at its own place, and stays there.

    That spreads the load by the weights, and lets the provider's prompt cache work. It is empty where a call needs a
    credential and none is in force.
    """
    credentials = upstream.credentials.of(tenant_id)
    if not credentials:
        return () if upstream.requires_credential else _WITHOUT
    if len(credentials) == 1:
        return credentials
    places = [place for place, credential in enumerate(credentials) for _ in range(credential.weight)]
    start = places[crc32(tenant_id.encode()) % len(places)] if places else 0
    if prefer is not None:
        start = next((place for place, one in enumerate(credentials) if one.credential_id == prefer), start)
    return (*credentials[start:], *credentials[:start])

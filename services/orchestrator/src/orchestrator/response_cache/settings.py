"""Settings of the response cache."""

from datetime import timedelta

from chassis.settings import Section
from pydantic import Field

from orchestrator.response_cache.look_up import CacheLimits
from orchestrator.response_cache.model import CachePolicy, Charge, ExactMode


class ResponseCacheSection(Section):
    """Answers that are given again to equal requests of a tenant, for routes that do not say otherwise."""

    exact: ExactMode = Field(
        ExactMode.ON_REQUEST,
        description="`on` for all requests that do not turn it off, `on_request` for those that ask for it, `off` for "
        "none.",
    )
    ttl: timedelta = Field(
        timedelta(hours=1), gt=timedelta(0), le=timedelta(days=30), description="How long an answer is given again."
    )
    stale_if_error: timedelta = Field(
        timedelta(0),
        ge=timedelta(0),
        le=timedelta(days=30),
        description="How long after that it is still given when all providers fail, marked as stale.",
    )
    charge: Charge = Field(
        Charge.FREE,
        description="What the tenant pays for a cached answer: nothing, the price of its tokens less "
        "`discount_percent`, or their full price.",
    )
    discount_percent: int = Field(
        50, ge=1, le=99, description="What is taken off the price of a cached answer whose charge is `discounted`."
    )
    max_entry_bytes: int = Field(
        262_144, ge=1_024, le=1_048_576, description="The most bytes of a kept answer; larger ones are not kept."
    )
    max_wait: timedelta = Field(
        timedelta(seconds=30),
        ge=timedelta(0),
        description="How long a request waits for an equal one that is being answered; then it calls the provider.",
    )

    semantic_timeout: timedelta = Field(
        timedelta(milliseconds=300),
        gt=timedelta(0),
        le=timedelta(seconds=10),
        description="How long a request waits for prompts of the same meaning, where the route has `cache.semantic`; "
        "then it is a miss.",
    )

    def policy(self) -> CachePolicy:
        return CachePolicy(self.exact, self.ttl, self.stale_if_error, self.charge, self.discount_percent)

    def limits(self) -> CacheLimits:
        return CacheLimits(self.max_entry_bytes, self.max_wait)

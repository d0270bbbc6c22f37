"""Every setting of the inference worker."""

from datetime import timedelta
from typing import Annotated, Self

from chassis.settings import GrpcSection, ServiceSettings
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from inference_worker.providers.registry import UpstreamConfig

# As it may stand in a price key.
UpstreamName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INFERENCE_WORKER_", env_nested_delimiter="__", frozen=True)

    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    upstreams: dict[UpstreamName, UpstreamConfig] = Field(
        default_factory=dict,
        description="Upstreams by the name that plans use: JSON, or a variable for each part of each.",
    )
    max_in_flight: int = Field(
        4096,
        ge=1,
        description="Plans and embeddings that run at once; more are rejected as unavailable.",
    )

    usage_wait: timedelta = Field(
        timedelta(seconds=2),
        ge=timedelta(0),
        le=timedelta(seconds=2.5),
        description="How long a stopped stream is read on, when its usage or much that was written is still to come. "
        "It has to fit into the end of the drain.",
    )

    @model_validator(mode="after")
    def _drains_in_time(self) -> Self:
        if self.drain < timedelta(seconds=5):
            raise ValueError("drain must be at least 5 seconds: 4 are for usage reports and connections")
        return self

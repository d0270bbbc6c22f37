"""Every knob that the inference worker has. Read once, in main, and passed on as values."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from chassis.settings import GrpcSection, Section, ServiceSettings
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

Encoding = Literal["cl100k_base", "o200k_base", "p50k_base"]

UpstreamName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]

BaseUrl = Annotated[str, Field(pattern=r"^https?://[^@\s]+$")]


class TokenizerSection(Section):
    """What counts tokens when an upstream does not say."""

    encoding: Encoding | None = Field(
        "cl100k_base", description="One of OpenAI's encodings; none: usage that is not reported stays unknown."
    )
    tokenizer: Path | None = Field(None, description="A `tokenizer.json` to count with instead of the encoding.")


class HttpSection(TokenizerSection):
    """An upstream that is called over HTTP, by the fast path."""

    base_url: BaseUrl = Field(description="Where the API is, without the path of the call.")
    api_key: SecretStr | None = Field(None, description="Credential; none is sent when unset.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="More headers for every call.")
    connect_timeout: timedelta = Field(
        timedelta(seconds=5), gt=timedelta(0), description="For a connection, with the wait for a free one."
    )
    keep_alive: timedelta = Field(
        timedelta(seconds=4), description="How long an idle connection is kept; less than the upstream keeps it."
    )
    max_connections: int = Field(
        4096,
        ge=1,
        description="Connections at once, so calls at once. A call more waits for `connect_timeout`, and then this "
        "upstream has failed, at no cost.",
    )
    max_answer_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, le=15 * 1024 * 1024, description="Largest answer that is not streamed."
    )


class OpenaiSection(HttpSection):
    """An upstream that speaks OpenAI's API; the base URL ends in `/v1` as a rule."""

    kind: Literal["openai"]


class AnthropicSection(HttpSection):
    """An upstream that speaks Anthropic's Messages API; the base URL comes without `/v1`."""

    kind: Literal["anthropic"]
    version: str = Field("2023-06-01", description="The API's version, sent as `anthropic-version`.")


class LitellmSection(TokenizerSection):
    """Any other provider, through litellm: 250 MB more memory from its first call on."""

    kind: Literal["litellm"]
    litellm_provider: str = Field(min_length=1, description="litellm's name of the provider, such as `gemini`.")
    base_url: BaseUrl | None = Field(None, description="Where the API is, if not where litellm thinks.")
    api_key: SecretStr | None = Field(None, description="Credential; litellm looks at its own variables when unset.")
    options: dict[str, SecretStr] = Field(
        default_factory=dict, description="More of litellm's arguments, such as `api_version` or `aws_region_name`."
    )


class OnnxSection(Section):
    """MiniLM in this process, for embeddings."""

    kind: Literal["onnx"]
    path: Path = Field(description="Folder with `model.onnx` and `tokenizer.json`.")
    threads: int = Field(1, ge=1, le=64, description="Cores that one batch may use.")


UpstreamSection = Annotated[
    OpenaiSection | AnthropicSection | LitellmSection | OnnxSection, Field(discriminator="kind")
]


class Settings(ServiceSettings):
    """The inference worker's settings."""

    model_config = SettingsConfigDict(env_prefix="INFERENCE_WORKER_", env_nested_delimiter="__", frozen=True)

    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    upstreams: dict[UpstreamName, UpstreamSection] = Field(
        default_factory=dict,
        description="Upstreams by the name that plans know them by: JSON, or a variable for each part of each.",
    )
    max_in_flight: int = Field(
        4096,
        ge=1,
        description="Plans and embeddings run at once; more are turned away as unavailable.",
    )

    @model_validator(mode="after")
    def _drains_in_time(self) -> Self:
        if self.drain < timedelta(seconds=5):
            raise ValueError("drain must be 5 seconds at least: 4 are for accounts and connections")
        return self

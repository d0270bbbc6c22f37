"""The kinds of upstreams. A new one is a module with a `ProviderConfig`, and a line here."""

from typing import Annotated

from pydantic import Field

from inference_worker.providers.anthropic.config import AnthropicConfig
from inference_worker.providers.cross_encoder import CrossEncoderConfig
from inference_worker.providers.litellm import LitellmConfig
from inference_worker.providers.minilm import OnnxConfig
from inference_worker.providers.openai.config import OpenaiConfig
from inference_worker.providers.rerankers.config import CohereConfig, JinaConfig, TeiConfig, VoyageConfig

UpstreamConfig = Annotated[
    OpenaiConfig
    | AnthropicConfig
    | LitellmConfig
    | OnnxConfig
    | CrossEncoderConfig
    | CohereConfig
    | JinaConfig
    | VoyageConfig
    | TeiConfig,
    Field(discriminator="kind"),
]

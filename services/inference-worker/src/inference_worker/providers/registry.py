"""The kinds of upstreams. A new one is a module with a `ProviderConfig`, and a line here."""

from typing import Annotated

from pydantic import Field

from inference_worker.providers.anthropic.config import AnthropicConfig
from inference_worker.providers.cross_encoder import CrossEncoderConfig
from inference_worker.providers.litellm import LitellmConfig
from inference_worker.providers.minilm import OnnxConfig
from inference_worker.providers.openai.config import OpenaiConfig

UpstreamConfig = Annotated[
    OpenaiConfig | AnthropicConfig | LitellmConfig | OnnxConfig | CrossEncoderConfig,
    Field(discriminator="kind"),
]

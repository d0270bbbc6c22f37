"""What providers count for media, in tokens; without a size, the maximum.

Data from their documentation, in November 2026. Where it and what users measured differ, the larger number counts.
"""

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from orchestrator.chat.image_size import Size
from orchestrator.routing.model import Provider


class Tariff(NamedTuple):
    """The rules of one provider. All are upper bounds."""

    image: Callable[[Size | None, bool], int]
    """Of an image, and whether it is asked for in low detail. None is the largest image."""
    audio_tokens_per_second: int

    @property
    def page(self) -> int:
        """Tokens of the picture of one page of a document; its text counts beside it."""
        return self.image(None, False)


class _Tiles(NamedTuple):
    """OpenAI: a base, and so much per tile of 512 pixels; the base alone in low detail.

    https://platform.openai.com/docs/guides/images-vision#calculating-costs: 1024 by 1024 pixels are 765 tokens of
    gpt-4o (4 tiles), 2048 by 4096 are 1105 (6 tiles).
    """

    base: int
    tile: int

    def tokens(self, size: Size | None, low: bool) -> int:
        return self.base if low else self.base + self.tile * _tiles(size)


MAX_TILES = 8
"""2048 by 768 pixels: 4 by 2."""


def _tiles(size: Size | None) -> int:
    if size is None:
        return MAX_TILES
    # Scaled to fit into 2048 pixels, then until the shorter side has 768; never enlarged.
    scale = min(1.0, 2048 / max(size))
    scale = min(scale, 768 / min(size))
    return min(ceil(size.width * scale / 512) * ceil(size.height * scale / 512), MAX_TILES)


MAX_PATCHES = 10_000
"""The budget of `detail: original`; most models scale down to 1,536 patches."""
PATCH_FACTOR = 2.46
"""Of gpt-4.1-nano and gpt-5-nano; 1.72 of o4-mini, 1.62 of the minis. Users measured less for gpt-5's, never more."""


def _patches(size: Size | None, low: bool) -> int:
    """OpenAI's newer models: patches of 32 pixels, times a factor of the model. The largest factor and budget.

    https://platform.openai.com/docs/guides/images-vision#model-sizing-behavior
    """
    if low:
        return ceil(256 * PATCH_FACTOR)
    patches = MAX_PATCHES if size is None else min(ceil(size.width / 32) * ceil(size.height / 32), MAX_PATCHES)
    return ceil(patches * PATCH_FACTOR)


def _openai_image(size: Size | None, low: bool) -> int:
    """The model is not known by name here: the larger of both rules, with the row of gpt-4o-mini."""
    return max(_Tiles(2_833, 5_667).tokens(size, low), _patches(size, low))


ANTHROPIC_MAX = 4_784
"""Of models that read up to 2,576 pixels on the long edge; the others scale down to 1,568 tokens."""
ANTHROPIC_PIXELS_PER_TOKEN = 750


def _anthropic_image(size: Size | None, _low: bool) -> int:
    """A token per patch of 28 by 28 pixels, or (w · h) / 750 as the page said before; scaled down to the maximum.

    https://platform.claude.com/docs/en/build-with-claude/vision. A page of a PDF is an image beside its text:
    https://platform.claude.com/docs/en/build-with-claude/pdf-support
    """
    if size is None:
        return ANTHROPIC_MAX
    # A side has at least one patch of 28 pixels, however thin the image.
    patches = ceil(size.width / 28) * ceil(size.height / 28)
    return min(max(ceil(size.width * size.height / ANTHROPIC_PIXELS_PER_TOKEN), patches), ANTHROPIC_MAX)


GEMINI_TILE = 258
GEMINI_HIGH_RESOLUTION = 2_240
GEMINI_MAX = 24 * GEMINI_TILE


def _gemini_image(size: Size | None, _low: bool) -> int:
    """258 tokens per tile, whose side is two thirds of the shorter one, 256 to 768 pixels; or a fixed number.

    https://ai.google.dev/gemini-api/docs/tokens: 258 up to 384 by 384 pixels, 32 tokens per second of sound.
    https://ai.google.dev/gemini-api/docs/media-resolution has the fixed numbers, by model and resolution.
    """
    if size is None:
        return GEMINI_MAX
    if max(size) <= 384:
        return max(GEMINI_TILE, GEMINI_HIGH_RESOLUTION)
    unit = min(max(int(min(size) / 1.5), 256), 768)
    tiles = ceil(size.width / unit) * ceil(size.height / unit)
    return min(max(tiles * GEMINI_TILE, GEMINI_HIGH_RESOLUTION), GEMINI_MAX)


OPEN_MODEL_MAX = 16_384


def _open_model_image(size: Size | None, _low: bool) -> int:
    """Open models: at least one token per 14 by 14 pixels, up to the largest default of a model server."""
    if size is None:
        return OPEN_MODEL_MAX
    return min(max(ceil(size.width / 14) * ceil(size.height / 14), 2_880), OPEN_MODEL_MAX)


# OpenAI: a token per 100 ms, https://platform.openai.com/docs/guides/realtime-costs. Anthropic reads no sound.
TARIFFS: dict[Provider, Tariff] = {
    Provider.OPENAI: Tariff(_openai_image, 10),
    Provider.ANTHROPIC: Tariff(_anthropic_image, 50),
    Provider.GEMINI: Tariff(_gemini_image, 32),
}
_RULES = (*(tariff.image for tariff in TARIFFS.values()), _open_model_image)
UNKNOWN_PROVIDER = Tariff(lambda size, low: max(rule(size, low) for rule in _RULES), 50)
"""The most that any of them counts."""

# Tiles of single models of OpenAI, by the beginning of their names; the first row that fits. gpt-5 (70 and 140)
# and gpt-4.1 (85 and 170) have none: their minis and nanos, and later models under the same beginning, have patches.
_OPENAI_MODELS: tuple[tuple[str, _Tiles], ...] = (
    ("gpt-4o-mini", _Tiles(2_833, 5_667)),
    ("gpt-4o", _Tiles(85, 170)),
    ("gpt-4.5", _Tiles(85, 170)),
    ("o1", _Tiles(75, 150)),
)


def tariff_of(provider: Provider | None, model: str) -> Tariff:
    """Return the rules for a model; the most expensive ones when the provider is not known."""
    if provider is None:
        return UNKNOWN_PROVIDER
    if provider is Provider.OPENAI:
        tiles = next((tiles for name, tiles in _OPENAI_MODELS if model.startswith(name)), None)
        if tiles is not None:
            return Tariff(tiles.tokens, TARIFFS[provider].audio_tokens_per_second)
    return TARIFFS[provider]

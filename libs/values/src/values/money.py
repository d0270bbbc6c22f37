"""Money is a whole number of billionths of a US dollar. No float ever touches it."""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

from values.usage import INPUT_DETAILS, AbsentClasses, TokenClass, TokenDetails, TokenUsage

NanoUsd = NewType("NanoUsd", int)

ZERO = NanoUsd(0)

NANO_USD_PER_USD = 1_000_000_000
MAX_NANO_USD = NanoUsd(2**63 - 1)
"""What a bigint column and an int64 field can hold: nine billion dollars."""

TOKENS_PER_PRICE = 1_000_000
"""Prices are per million tokens."""
MAX_TOKENS = 1_000_000_000
MAX_PRICE = NanoUsd(10**15)
"""A million dollars per million tokens. No cost of a call can overflow: 2 · 10⁹ · 10¹⁵ ÷ 10⁶ < 2⁶³."""

INPUT_PRICES = "input_per_million_nano_usd"
"""A detail of INSUFFICIENT_QUOTA: the input prices of the bounds that were not reserved, in their order, by commas."""

DISCOUNT_MARK = "~"
"""Between the version of a price and what was taken off it: `prc_1~50` is `prc_1` less 50 %."""

NO_CLASS_ABSENT = AbsentClasses()

_TEXT_INPUT, _TEXT_OUTPUT = TokenClass.TEXT_INPUT, TokenClass.TEXT_OUTPUT

# No exponents: the amount they hide may be too large to write down, or too small to be anything but zero.
_USD = re.compile(r"(?P<whole>[0-9]{1,32})(?:\.(?P<places>[0-9]{1,9}))?")
_DISCOUNTED = re.compile(rf"(?P<version>[^{DISCOUNT_MARK}]+){DISCOUNT_MARK}(?P<percent>[1-9][0-9]?|100)", re.ASCII)


class ClassPrices(NamedTuple):
    """Prices of classes of tokens, per million. None: the class has the price that it falls back to.

    Cached and image input, and audio input, fall back to the price of input; a write to the cache to that, too, and one
    for an hour to that of the other writes; reasoning and audio output to the price of output.
    """

    cached_input: NanoUsd | None = None
    cache_write: NanoUsd | None = None
    cache_write_1h: NanoUsd | None = None
    audio_input: NanoUsd | None = None
    image_input: NanoUsd | None = None
    reasoning_output: NanoUsd | None = None
    audio_output: NanoUsd | None = None


NO_CLASS_PRICES = ClassPrices()


class Price(NamedTuple):
    """A row of the price book: what one model costs, per million tokens."""

    key: str
    """ "<upstream>/<model>"."""
    version: str
    """Names the row; stamped on every ledger entry made with it."""
    input_per_million: NanoUsd
    output_per_million: NanoUsd
    classes: ClassPrices | None = None
    """Of classes of tokens; None: all have the prices above."""

    @property
    def per_class(self) -> tuple[NanoUsd, ...]:
        """The price of each class in `TokenDetails`, in its order, with what classes fall back to."""
        read, written = self.input_per_million, self.output_per_million
        cached, write, write_1h, audio, image, reasoning, spoken = self.classes or NO_CLASS_PRICES
        writes = read if write is None else write
        return (
            read if cached is None else cached,
            writes,
            writes if write_1h is None else write_1h,
            read if audio is None else audio,
            read if image is None else image,
            written if reasoning is None else reasoning,
            written if spoken is None else spoken,
        )


class ClassCost(NamedTuple):
    """Tokens of one class in a bill, and their share of it."""

    token_class: TokenClass
    tokens: int
    cost: NanoUsd


def cost(input_tokens: int, output_tokens: int, price: Price, details: TokenDetails | None = None) -> NanoUsd:
    """Price one provider call: the exact amount, rounded up once to a whole nano-dollar, so no used token is free.

    `details` are tokens within the two counts.
    """
    exact = input_tokens * price.input_per_million + output_tokens * price.output_per_million
    if details is not None and price.classes is not None:
        for place, (tokens, amount) in enumerate(zip(details, price.per_class, strict=True)):
            if tokens:
                text = price.input_per_million if place < INPUT_DETAILS else price.output_per_million
                exact += tokens * (amount - text)
    return NanoUsd(-(-exact // TOKENS_PER_PRICE))


def max_cost(input_tokens: int, output_tokens: int, price: Price, absent: AbsentClasses = NO_CLASS_ABSENT) -> NanoUsd:
    """Return the most that a call with these counts can cost: every token at the price of its dearest class."""
    if price.classes is None:
        return cost(input_tokens, output_tokens, price)
    cached, write, write_1h, audio, image, reasoning, spoken = price.per_class
    read = max(price.input_per_million, cached, image)
    if not absent.cache_writes:
        read = max(read, write, write_1h)
    if not absent.audio_input:
        read = max(read, audio)
    written = max(price.output_per_million, reasoning)
    if not absent.audio_output:
        written = max(written, spoken)
    exact = input_tokens * read + output_tokens * written
    return NanoUsd(-(-exact // TOKENS_PER_PRICE))


def class_costs(usage: TokenUsage, price: Price, paid: NanoUsd) -> tuple[ClassCost, ...]:
    """Share what was paid for a call among the classes of its tokens; the shares add up to `paid`.

    The running sum is rounded up, as the whole is. Where less was paid than the call costs, the last classes have less.
    """
    if usage.known is None:
        return ()
    input_tokens, output_tokens = usage.known
    if usage.details is None:
        return _text_costs(input_tokens, output_tokens, price, paid)
    details = usage.details
    read, written = details[:INPUT_DETAILS], details[INPUT_DETAILS:]
    tokens = (input_tokens - sum(read), *read, output_tokens - sum(written), *written)
    amounts = price.per_class
    prices = (price.input_per_million, *amounts[:INPUT_DETAILS], price.output_per_million, *amounts[INPUT_DETAILS:])
    exact, shared, shares = 0, 0, []
    for token_class, count, amount in zip(TokenClass, tokens, prices, strict=True):
        exact += count * amount
        until = min(-(-exact // TOKENS_PER_PRICE), paid)
        if count:
            shares.append(ClassCost(token_class, count, NanoUsd(until - shared)))
        shared = until
    return tuple(shares)


def _text_costs(input_tokens: int, output_tokens: int, price: Price, paid: NanoUsd) -> tuple[ClassCost, ...]:
    """As `class_costs` where all tokens are text: nearly every call."""
    exact = input_tokens * price.input_per_million
    read = NanoUsd(min(-(-exact // TOKENS_PER_PRICE), paid))
    exact += output_tokens * price.output_per_million
    written = NanoUsd(min(-(-exact // TOKENS_PER_PRICE), paid) - read)
    shares = (ClassCost(_TEXT_INPUT, input_tokens, read), ClassCost(_TEXT_OUTPUT, output_tokens, written))
    return shares if input_tokens and output_tokens else tuple(one for one in shares if one.tokens)


def discount(price: Price, percent: int) -> Price:
    """Take `percent`, 0 to 100, off a price, and round up. The version names both."""
    if not percent:
        return price
    amounts = (_less(price.input_per_million, percent), _less(price.output_per_million, percent))
    classes = price.classes and ClassPrices(
        *(None if amount is None else _less(amount, percent) for amount in price.classes)
    )
    return Price(price.key, f"{price.version}{DISCOUNT_MARK}{percent}", *amounts, classes)


def split_version(version: str) -> tuple[str, int]:
    """Return the version in the price book, and the percentage that is taken off its price."""
    match = _DISCOUNTED.fullmatch(version)
    return (match["version"], int(match["percent"])) if match else (version, 0)


def _less(amount: NanoUsd, percent: int) -> NanoUsd:
    return NanoUsd(-(-amount * (100 - percent) // 100))


def nano_usd_to_usd(amount: NanoUsd) -> str:
    """Write an amount as an exact decimal with at most nine places: 12_300 is "0.0000123", 0 is "0"."""
    dollars, rest = divmod(abs(amount), NANO_USD_PER_USD)
    text = f"{dollars}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if amount < 0 else text


def usd_to_nano_usd(text: str) -> NanoUsd:
    """Read an exact decimal such as "12.50". Raises ValueError, with a sentence, for all other text."""
    match = _USD.fullmatch(text)
    if match is None:
        raise ValueError("must be a decimal amount of US dollars with at most 9 places, like 12.50")
    amount = int(match["whole"]) * NANO_USD_PER_USD + int((match["places"] or "").ljust(9, "0"))
    if amount > MAX_NANO_USD:
        raise ValueError(f"must be between 0 and {nano_usd_to_usd(MAX_NANO_USD)}")
    return NanoUsd(amount)

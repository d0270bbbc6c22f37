"""Costs by class of tokens: kept as the part for what was read, and the tokens that are not text; text is the rest."""

from collections.abc import Iterable, Mapping, Sequence

from values.money import ClassCost, NanoUsd
from values.usage import DETAIL_CLASSES, INPUT_DETAILS, TokenClass

INPUT_CLASSES = frozenset({TokenClass.TEXT_INPUT, *DETAIL_CLASSES[:INPUT_DETAILS]})

Kept = Mapping[str, Sequence[int]]
"""Tokens and cost of classes other than text."""


def input_cost(classes: Iterable[ClassCost]) -> NanoUsd:
    """Sum what was paid for tokens that were read."""
    return NanoUsd(sum([one.cost for one in classes if one.token_class in INPUT_CLASSES]))


def kept_classes(classes: Iterable[ClassCost]) -> dict[str, list[int]]:
    """Return tokens and cost of the classes other than text."""
    return {one.token_class.value: [one.tokens, one.cost] for one in classes if one.token_class in DETAIL_CLASSES}


def all_classes(read: tuple[int, int], written: tuple[int, int], kept: Kept) -> tuple[ClassCost, ...]:
    """Return all classes that have tokens or a cost. `read` and `written` are tokens and cost, text included."""
    sums: dict[TokenClass, list[int]] = {TokenClass.TEXT_INPUT: list(read), TokenClass.TEXT_OUTPUT: list(written)}
    for token_class in DETAIL_CLASSES:
        if token_class in kept:
            tokens, cost = kept[token_class]
            sums[token_class] = [tokens, cost]
            text = sums[TokenClass.TEXT_INPUT if token_class in INPUT_CLASSES else TokenClass.TEXT_OUTPUT]
            text[0] -= tokens
            text[1] -= cost
    return tuple(
        ClassCost(token_class, sums[token_class][0], NanoUsd(sums[token_class][1]))
        for token_class in TokenClass
        if any(sums.get(token_class, ()))
    )

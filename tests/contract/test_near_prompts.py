"""The guard of the semantic cache beside the embedding model that is shipped: near misses by vectors that near."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from argosy_dev.fleet.paths import FleetPaths
from inference_worker.providers.minilm import MinilmEmbedder
from orchestrator.response_cache.guard import difference

from services.orchestrator.tests.independent_prompts import INDEPENDENT_NEAR_MISSES, INDEPENDENT_PARAPHRASES
from services.orchestrator.tests.near_prompts import FURTHER_NEAR_MISSES, NEAR_MISSES, PARAPHRASES, WRITTEN_OTHERWISE

THRESHOLD = 0.95
"""The default of a route."""
THRESHOLDS = (THRESHOLD, 0.9, 0.85, 0.8)
"""A route may set a lower one; the guard has to be enough for it."""
MISSES = [
    *((kind.value, *pair) for kind, pairs in NEAR_MISSES.items() for pair in pairs),
    *(("further", *pair) for pair in FURTHER_NEAR_MISSES),
    *(("writing", *pair) for pair in WRITTEN_OTHERWISE),
]


@pytest.fixture(scope="module")
def folder() -> Path:
    made = FleetPaths.from_environment().minilm
    assert (made / "model.onnx").exists(), "the embedding model is not there: run `make setup`"
    return made


async def similarities(folder: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    async with MinilmEmbedder(folder, threads=1) as embedder:
        embedded = await embedder.embed("minilm", texts, dimensions=None)
    vectors = {text: np.frombuffer(vector, "<f4") for text, vector in zip(texts, embedded.vectors, strict=True)}
    return [float(vectors[one] @ vectors[other]) for one, other in pairs]


async def test_no_near_miss_is_a_hit_although_many_are_as_near_as_hits(folder: Path) -> None:
    near = await similarities(folder, [(one, other) for _, one, other in MISSES])
    as_near = [miss for miss, similarity in zip(MISSES, near, strict=True) if similarity >= THRESHOLD]
    by_kind = Counter(kind for kind, _, _ in as_near)
    print(f"\n{len(MISSES)} near misses, {len(as_near)} of similarity >= {THRESHOLD}: {dict(by_kind)}")

    assert len(as_near) >= 60
    assert [(one, other) for _, one, other in as_near if difference(one, other) is None] == []


async def test_the_table_of_another_author_is_printed_and_has_no_false_hit_at_any_threshold(folder: Path) -> None:
    misses = [pair for pairs in INDEPENDENT_NEAR_MISSES.values() for pair in pairs]
    near = await similarities(folder, [(one, other) for _, one, other in misses])
    alike = await similarities(folder, INDEPENDENT_PARAPHRASES)
    same = [difference(*pair) is None for pair in INDEPENDENT_PARAPHRASES]
    print()
    for threshold in THRESHOLDS:
        as_near = [miss for miss, similarity in zip(misses, near, strict=True) if similarity >= threshold]
        false_hits = sum(difference(one, other) is None for _, one, other in as_near)
        by_vector = sum(similarity >= threshold for similarity in alike)
        hits = sum(is_same and similarity >= threshold for is_same, similarity in zip(same, alike, strict=True))
        print(
            f"{threshold}: of {len(misses)} near misses {len(as_near)} are as near, {false_hits} false hits; "
            f"of {len(alike)} paraphrases {by_vector} are as near, {hits} hits"
        )
        if threshold == THRESHOLD:
            assert len(as_near) >= 120
            assert hits >= 45

    assert [miss for miss in misses if difference(miss[1], miss[2]) is None] == []


async def test_the_recall_of_true_paraphrases_is_printed(folder: Path) -> None:
    near = await similarities(folder, PARAPHRASES)
    alike = [difference(*pair) is None for pair in PARAPHRASES]
    for threshold in THRESHOLDS:
        by_vector = sum(similarity >= threshold for similarity in near)
        hits = sum(same and similarity >= threshold for same, similarity in zip(alike, near, strict=True))
        print(
            f"\n{len(PARAPHRASES)} paraphrases at {threshold}: {by_vector} near, {hits} hits by guard and vector",
            end="",
        )

    assert sum(same and similarity >= THRESHOLD for same, similarity in zip(alike, near, strict=True)) >= 15

"""The evaluation of the small set in Postgres, with vectors of shared words in the place of the model's."""

from __future__ import annotations

from services.retrieval.tests.fake_peers import FakeEmbedder
from services.retrieval.tests.quality.beir import load_beir
from services.retrieval.tests.quality.evaluate import index, measure, report
from services.retrieval.tests.tenants import Tenant
from services.retrieval.tests.texts import WordTokenCounter
from services.retrieval.tests.unit.quality.test_beir import SMALL


async def test_the_evaluation_ranks_documents_and_prints_each_half(one: Tenant) -> None:
    dataset = load_beir(SMALL)

    indexed = await index(dataset, one, FakeEmbedder(), WordTokenCounter())
    table = await report(dataset, indexed)

    assert (await indexed.both("form EX-204"))[0] == "claims"
    assert (await indexed.keywords("what does error QX-7042 mean"))[0] == "errors"
    assert (await indexed.vectors("a restore is rehearsed of the databases"))[0] == "backup"
    lines = table.splitlines()
    assert lines[0] == "28 documents, 18 queries"
    assert [line[:13].strip() for line in lines[2:]] == ["search", "keywords only", "vectors only"]
    # Of 28 documents in any order, ten have a third of the answers.
    assert sum((await measure(dataset, indexed.keywords, indexed.embedder)).recall) > 0.5 * len(dataset.queries)

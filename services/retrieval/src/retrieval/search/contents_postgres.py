"""What vector stores hold, as SQL: kept counts of all files, and sums over those that a filter allows."""

from values.attributes import Filter

from retrieval.search.conditions import Parameter, to_condition
from retrieval.vector_stores.attachments_postgres import IS_EXPIRED

_CONTENTS = f"""
SELECT vector_store_id, embedding_model, space, {IS_EXPIRED} AS expired,
       last_active_at < now() - interval '1 minute' AS idle, coalesce(({{chunks}}), 0)::bigint AS chunks
FROM vector_stores s WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[])
"""  # noqa: S608 - constants
_KEPT_COUNT = """
SELECT sum(c.chunks) FROM store_counts c WHERE c.tenant_id = $1 AND c.vector_store_id = s.vector_store_id
"""
_FILTERED_COUNT = """
SELECT sum(chunks) FROM attachments a
WHERE a.tenant_id = $1 AND a.vector_store_id = s.vector_store_id AND a.state = 'completed' AND {condition}
"""


def contents_sql(filters: Filter | None = None) -> tuple[str, list[Parameter]]:
    """Spaces and chunks of the stores $2 of tenant $1, with the parameters from $3 on."""
    if filters is None:
        return _CONTENTS.format(chunks=_KEPT_COUNT), []
    condition, values = to_condition(filters, 3)
    return _CONTENTS.format(chunks=_FILTERED_COUNT.format(condition=condition)), values

-- Find the calls that are settled for good in requests that are, without any estimate: an event that names no other call
-- changes nothing there. Returns their places in the arrays, from 1. It locks nothing, because final settlements stay.
CREATE OR REPLACE FUNCTION metering.find_settled_hits(
    tenants text[], requests text[], attempts integer[]
) RETURNS integer[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT coalesce(array_agg(i.place::integer ORDER BY i.place), '{}')
        FROM unnest(tenants, requests, attempts) WITH ORDINALITY AS i (tenant_id, request_id, attempt, place)
        CROSS JOIN LATERAL (
            SELECT r.state FROM metering.reservations AS r
            WHERE r.tenant_id = i.tenant_id AND r.request_id = i.request_id OFFSET 0
        ) AS r
        CROSS JOIN LATERAL (
            SELECT bool_or(s.attempt = i.attempt) AS is_settled,
                   bool_or(s.event_id = '' AND s.reconciliation IS NULL) AS has_estimate
            FROM metering.settlements AS s
            WHERE s.tenant_id = i.tenant_id AND s.request_id = i.request_id OFFSET 0
        ) AS s
        WHERE r.state = 'settled' AND s.is_settled AND NOT s.has_estimate
    );
END $$;

-- Give those of these reservations whose lease is over, by the clock of the database, another one; return how many.
-- What is locked now is being settled, expired or extended: it is left out.
CREATE OR REPLACE FUNCTION metering.extend_leases(
    tenants text[], requests text[], extension interval
) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    item record;
    extended bigint := 0;
BEGIN
    FOR item IN
        SELECT DISTINCT u.tenant_id, u.request_id FROM unnest(tenants, requests) AS u (tenant_id, request_id) ORDER BY 1, 2
    LOOP
        PERFORM FROM metering.reservations AS r
        WHERE r.tenant_id = item.tenant_id AND r.request_id = item.request_id
            AND r.state = 'held' AND r.expires_at <= clock_timestamp()
        FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE metering.reservations AS r SET expires_at = clock_timestamp() + extension
            WHERE r.tenant_id = item.tenant_id AND r.request_id = item.request_id;
            extended := extended + 1;
        END IF;
    END LOOP;
    RETURN extended;
END $$;

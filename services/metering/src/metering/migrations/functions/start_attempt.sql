-- Record the announced attempts of a request and raise what it holds. The caller has locked the request and its budget
-- with metering.lock_requests, and decided that the budget has room; its CHECK decides again.
CREATE OR REPLACE FUNCTION metering.start_attempt(
    tenant text, request text, announced jsonb, held_amount bigint, raised_by bigint
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE metering.reservations AS r SET attempts = announced, held = held_amount
    WHERE r.tenant_id = tenant AND r.request_id = request;
    IF raised_by > 0 THEN
        UPDATE metering.budgets AS b SET held = b.held + raised_by
        WHERE b.tenant_id = tenant AND b.scope = 'tenant' AND b.scope_id = tenant;
    END IF;
END $$;

-- Write the decision about the exposure of one provider call, with its ledger transaction, and adjust the budget. The
-- caller has locked the request and its budget with metering.lock_requests.
CREATE OR REPLACE FUNCTION metering.reconcile_exposure(
    tenant text, request text, number integer, decision text, billed bigint, key_id text, note text,
    transactions jsonb, entries jsonb, exposed_change bigint
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    decided_at timestamptz;
BEGIN
    INSERT INTO metering.ledger_transactions (tenant_id, transaction_id, request_id, attempt, kind, created_at)
    SELECT t.tenant_id, t.transaction_id, t.request_id, t.attempt, t.kind, t.created_at
    FROM jsonb_to_recordset(transactions) AS t (
        tenant_id text, transaction_id text, request_id text, attempt integer, kind text, created_at timestamptz
    )
    RETURNING created_at INTO decided_at;
    INSERT INTO metering.ledger_entries (tenant_id, transaction_id, line, account, amount, price_version, created_at)
    SELECT e.tenant_id, e.transaction_id, e.line, e.account, e.amount, e.price_version, e.created_at
    FROM jsonb_to_recordset(entries) AS e (
        tenant_id text, transaction_id text, line smallint, account text, amount bigint, price_version text,
        created_at timestamptz
    );
    UPDATE metering.settlements AS s SET
        reconciliation = decision, reconciled_cost = billed, reconciled_by = key_id, reconciled_note = note,
        reconciled_at = decided_at
    WHERE s.tenant_id = tenant AND s.request_id = request AND s.attempt = number;
    UPDATE metering.budgets AS b SET spent = b.spent + billed, exposed = b.exposed + exposed_change
    WHERE b.tenant_id = tenant AND b.scope = 'tenant' AND b.scope_id = tenant;
END $$;

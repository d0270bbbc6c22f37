-- Announced attempts, exposure that counts against the cap, usage above the bound, reconciliation.

-- Provider calls that were announced, as [{"attempt", "bound", …}]; empty while one call at most can have been made.
ALTER TABLE metering.reservations ADD COLUMN attempts jsonb NOT NULL DEFAULT '[]';

-- What may have been consumed through the tenant's doing: it counts against the cap until it is reconciled.
ALTER TABLE metering.budgets ADD COLUMN exposed bigint NOT NULL DEFAULT 0 CHECK (exposed >= 0);
ALTER TABLE metering.budgets DROP CONSTRAINT budgets_within_cap;
ALTER TABLE metering.budgets ADD CONSTRAINT budgets_within_cap
    CHECK (spent <= cap AND held <= cap - spent AND exposed <= cap - spent - held);

-- `counted` is the part of `exposed` in its budget. The reported counts are those that exceeded the bound. The last five
-- columns are the decision of an operator; they are written once.
ALTER TABLE metering.settlements
    ADD COLUMN exposure_cause text NOT NULL DEFAULT '' CHECK (exposure_cause IN ('', 'provider', 'client', 'fleet')),
    ADD COLUMN counted bigint NOT NULL DEFAULT 0 CHECK (counted BETWEEN 0 AND exposed),
    ADD COLUMN usage_clamped boolean NOT NULL DEFAULT false,
    ADD COLUMN reported_input_tokens bigint CHECK (reported_input_tokens >= 0),
    ADD COLUMN reported_output_tokens bigint CHECK (reported_output_tokens >= 0),
    ADD COLUMN reconciliation text CHECK (reconciliation IN ('written_off', 'billed')),
    ADD COLUMN reconciled_cost bigint NOT NULL DEFAULT 0 CHECK (reconciled_cost BETWEEN 0 AND exposed),
    ADD COLUMN reconciled_by text NOT NULL DEFAULT '',
    ADD COLUMN reconciled_note text NOT NULL DEFAULT '',
    ADD COLUMN reconciled_at timestamptz,
    ADD CONSTRAINT settlements_only_bills_cost CHECK (reconciliation = 'billed' OR reconciled_cost = 0),
    ADD CONSTRAINT settlements_reconciled_at_an_instant CHECK ((reconciliation IS NULL) = (reconciled_at IS NULL));
UPDATE metering.settlements SET exposure_cause = CASE attempt WHEN 0 THEN 'fleet' ELSE 'provider' END WHERE exposed > 0;
CREATE INDEX settlements_open_exposure ON metering.settlements (tenant_id, settled_at, request_id, attempt)
    WHERE exposed > 0 AND reconciliation IS NULL;
CREATE INDEX settlements_clamped ON metering.settlements (tenant_id, settled_at, request_id, attempt)
    WHERE usage_clamped;

ALTER TABLE metering.ledger_transactions DROP CONSTRAINT ledger_transactions_kind_check;
ALTER TABLE metering.ledger_transactions ADD CONSTRAINT ledger_transactions_kind_check
    CHECK (kind IN ('settlement', 'expiry', 'correction', 'reconciliation'));
ALTER TABLE metering.ledger_entries DROP CONSTRAINT ledger_entries_account_check;
ALTER TABLE metering.ledger_entries ADD CONSTRAINT ledger_entries_account_check
    CHECK (account IN ('receivable', 'revenue', 'exposure', 'suspense', 'written_off'));

-- A settlement is an estimate while no message has told of its call (event_id is empty): a usage event may replace it.
-- Every other settlement is final, but that an operator decides about its exposure, once.
DROP TRIGGER settled_calls_are_final ON metering.settlements;
CREATE FUNCTION metering.refuse_change_of_settlement() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unchanged jsonb := to_jsonb(OLD) - ARRAY[
        'reconciliation', 'reconciled_cost', 'reconciled_by', 'reconciled_note', 'reconciled_at'
    ];
BEGIN
    IF OLD.reconciliation IS NULL AND (
        OLD.event_id = '' AND NEW.reconciliation IS NULL
        OR OLD.exposed > 0 AND NEW.reconciliation IS NOT NULL AND to_jsonb(NEW) @> unchanged
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '%: this change of %.% is refused', TG_NAME, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER settled_calls_are_final BEFORE UPDATE ON metering.settlements
    FOR EACH ROW EXECUTE FUNCTION metering.refuse_change_of_settlement();

-- What is held grows while it is held, with the attempts that are announced; bounds never change.
DROP TRIGGER reservations_only_close ON metering.reservations;
CREATE TRIGGER reservations_only_close BEFORE UPDATE ON metering.reservations
    FOR EACH ROW WHEN (
        (OLD.state, NEW.state) NOT IN (
            ('held', 'held'), ('held', 'settled'), ('held', 'expired'), ('expired', 'settled'), ('settled', 'settled')
        )
        OR OLD.bounds IS DISTINCT FROM NEW.bounds
        OR NEW.held < OLD.held
        OR (NEW.state <> 'held' AND (OLD.held, OLD.attempts) IS DISTINCT FROM (NEW.held, NEW.attempts))
    ) EXECUTE FUNCTION metering.refuse_change();

-- Their result types change, which CREATE OR REPLACE refuses; `functions/` makes them again.
DROP FUNCTION IF EXISTS metering.reserve(text[], text[], bigint[], interval[], jsonb[], text[], text[], text[], bigint);
DROP FUNCTION IF EXISTS metering.lock_requests(text[], text[], bigint, boolean);
DROP FUNCTION IF EXISTS metering.lock_overdue_requests(integer, bigint);
DROP FUNCTION IF EXISTS metering.finish_settlement(jsonb, text[], bigint[], bigint[], jsonb);

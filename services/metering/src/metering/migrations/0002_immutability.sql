-- What may change: revoked privileges for the app role, and triggers that bind even the owner.

-- The app role adds to the books; it takes nothing out of them.
REVOKE UPDATE, DELETE, TRUNCATE ON metering.prices, metering.ledger_transactions, metering.ledger_entries FROM metering_app;
REVOKE DELETE, TRUNCATE ON metering.budgets, metering.reservations, metering.settlements, metering.usage_daily FROM metering_app;

CREATE FUNCTION metering.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: this change of %.% is refused', TG_NAME, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER prices_are_immutable BEFORE UPDATE OR DELETE ON metering.prices
    FOR EACH ROW EXECUTE FUNCTION metering.refuse_change();
CREATE TRIGGER transactions_are_immutable BEFORE UPDATE OR DELETE ON metering.ledger_transactions
    FOR EACH ROW EXECUTE FUNCTION metering.refuse_change();
CREATE TRIGGER entries_are_immutable BEFORE UPDATE OR DELETE ON metering.ledger_entries
    FOR EACH ROW EXECUTE FUNCTION metering.refuse_change();
CREATE TRIGGER prices_are_kept BEFORE TRUNCATE ON metering.prices
    FOR EACH STATEMENT EXECUTE FUNCTION metering.refuse_change();
CREATE TRIGGER transactions_are_kept BEFORE TRUNCATE ON metering.ledger_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION metering.refuse_change();
CREATE TRIGGER entries_are_kept BEFORE TRUNCATE ON metering.ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION metering.refuse_change();

-- The settlement of a provider call is final; only attempt 0 may be taken back.
CREATE TRIGGER settled_calls_are_final BEFORE UPDATE ON metering.settlements
    FOR EACH ROW WHEN (OLD.attempt > 0) EXECUTE FUNCTION metering.refuse_change();
-- A reservation only moves held → settled, held → expired or expired → settled, and keeps what it held.
CREATE TRIGGER reservations_only_close BEFORE UPDATE ON metering.reservations
    FOR EACH ROW WHEN (
        (OLD.state, NEW.state) NOT IN (('held', 'settled'), ('held', 'expired'), ('expired', 'settled'), ('settled', 'settled'))
        OR (OLD.held, OLD.bounds) IS DISTINCT FROM (NEW.held, NEW.bounds)
    ) EXECUTE FUNCTION metering.refuse_change();

-- Proves at commit that the lines of a transaction sum to zero. A session that names another tenant by then sees no
-- lines, and no lines are no proof: it is refused as well.
CREATE FUNCTION metering.prove_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    total numeric;
BEGIN
    SELECT sum(e.amount) INTO total FROM metering.ledger_entries AS e
    WHERE e.tenant_id = NEW.tenant_id AND e.transaction_id = NEW.transaction_id;
    IF total IS DISTINCT FROM 0 THEN
        RAISE EXCEPTION 'ledger transaction % sums to %, not to 0', NEW.transaction_id, total
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_sums_to_zero';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER ledger_sums_to_zero AFTER INSERT ON metering.ledger_entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION metering.prove_balance();

-- Which changes are refused: revoked privileges for the app role, and triggers that bind the owner too.

-- The app role adds rows; it deletes none, and changes neither prices nor the ledger.
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
CREATE TRIGGER prices_are_not_truncated BEFORE TRUNCATE ON metering.prices
    FOR EACH STATEMENT EXECUTE FUNCTION metering.refuse_change();
CREATE TRIGGER transactions_are_not_truncated BEFORE TRUNCATE ON metering.ledger_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION metering.refuse_change();
CREATE TRIGGER entries_are_not_truncated BEFORE TRUNCATE ON metering.ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION metering.refuse_change();

-- The settlement of a provider call is final; only attempt 0 may be replaced.
CREATE TRIGGER settled_calls_are_final BEFORE UPDATE ON metering.settlements
    FOR EACH ROW WHEN (OLD.attempt > 0) EXECUTE FUNCTION metering.refuse_change();
-- The only transitions of a reservation are held → settled, held → expired and expired → settled; amount and bounds stay.
CREATE TRIGGER reservations_only_close BEFORE UPDATE ON metering.reservations
    FOR EACH ROW WHEN (
        (OLD.state, NEW.state) NOT IN (('held', 'settled'), ('held', 'expired'), ('expired', 'settled'), ('settled', 'settled'))
        OR (OLD.held, OLD.bounds) IS DISTINCT FROM (NEW.held, NEW.bounds)
    ) EXECUTE FUNCTION metering.refuse_change();

-- Checks at commit that the entries of a transaction sum to zero. A session that has switched to another tenant by then
-- sees no entries; their sum is null, and that is refused as well.
CREATE FUNCTION metering.check_balance() RETURNS trigger LANGUAGE plpgsql AS $$
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
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION metering.check_balance();

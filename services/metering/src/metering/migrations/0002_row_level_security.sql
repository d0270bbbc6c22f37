-- A session sees the rows of the tenant in `argosy.tenant`; '*' sees all (grouped transactions, the sweeper, the audit).
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'prices', 'budgets', 'reservations', 'settlements', 'ledger_transactions', 'ledger_entries', 'usage_daily'
    ] LOOP
        EXECUTE format('ALTER TABLE metering.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON metering.%I USING (%2$s) WITH CHECK (%2$s)',
            name, 'tenant_id = current_setting(''argosy.tenant'', true) OR current_setting(''argosy.tenant'', true) = ''*'''
        );
    END LOOP;
END $$;

-- Every tenant pays the prices of tenant '*', so every tenant may read them.
CREATE POLICY all_tenants ON metering.prices FOR SELECT USING (tenant_id = '*');

-- Settings of the transactions that lock budgets, until they end.
-- A client that hangs inside one blocks whole tenants, so the server ends its session after 5 s.
-- Rows are reached by key only: a plan that was cached while the tables were small would scan them when they are large.
CREATE OR REPLACE FUNCTION metering.configure_transaction() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL idle_in_transaction_session_timeout = '5s';
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off;
END $$;

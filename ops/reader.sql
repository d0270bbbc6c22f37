-- The role with which Grafana reads cost, usage and budgets of all tenants. As a superuser, in the database of metering:
--   psql "$DSN" -v password="$PASSWORD" -f ops/reader.sql
-- It can read three tables, of all tenants, and write nothing. Who sees the dashboard sees every tenant: give it to operators alone.
CREATE ROLE argosy_reader LOGIN PASSWORD :'password' CONNECTION LIMIT 5;
ALTER ROLE argosy_reader SET default_transaction_read_only = on;
ALTER ROLE argosy_reader SET statement_timeout = '10s';
-- Row-level security shows the rows of the tenant in this setting; '*' means all.
ALTER ROLE argosy_reader SET argosy.tenant = '*';
-- Provisioning takes CONNECT from everybody; the name of the database is not fixed.
DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO argosy_reader', current_database()); END $$;
GRANT USAGE ON SCHEMA metering TO argosy_reader;
GRANT SELECT ON metering.usage_daily, metering.budgets, metering.settlements TO argosy_reader;

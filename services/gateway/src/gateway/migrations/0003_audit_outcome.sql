-- What became of an administrative write. A write in another service is `unknown` until its answer arrives.
SELECT set_config('argosy.tenant', '*', true);

ALTER TABLE identity.audit
    ADD COLUMN outcome text NOT NULL DEFAULT 'done' CHECK (outcome IN ('done', 'refused', 'unknown')),
    ADD COLUMN reason text NOT NULL DEFAULT '';
-- These entries were added before their write, whatever became of it.
UPDATE identity.audit SET outcome = 'unknown' WHERE action IN ('budget.set', 'price.set');
ALTER TABLE identity.audit ALTER COLUMN outcome DROP DEFAULT;

-- The outcome is written once; nothing else of an entry changes.
GRANT UPDATE (outcome, reason) ON identity.audit TO gateway_app;
CREATE POLICY outcome_once ON identity.audit AS RESTRICTIVE FOR UPDATE USING (outcome = 'unknown')
    WITH CHECK (outcome = 'done' OR reason <> '');

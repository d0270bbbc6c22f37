-- By which an event is found while it waits: metering asks for the usage of a request whose lease has run out.
ALTER TABLE orchestration.outbox ADD COLUMN request_id text NOT NULL DEFAULT '';
CREATE INDEX outbox_by_request ON orchestration.outbox (tenant_id, request_id);

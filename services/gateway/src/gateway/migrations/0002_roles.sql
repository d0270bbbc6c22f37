-- Platform administration and membership of a tenant are separate roles: `admin` was both.

-- The keys of all tenants.
SELECT set_config('argosy.tenant', '*', true);

-- Only the operators' own tenant keeps administrators; a key there that was both is an administrator alone.
UPDATE identity.api_keys SET roles = '{platform_admin}'
WHERE 'admin' = ANY (roles) AND tenant_id IN (SELECT tenant_id FROM identity.tenants WHERE name = 'platform');
UPDATE identity.api_keys SET roles = '{member}' WHERE 'admin' = ANY (roles);

ALTER TABLE identity.api_keys ADD CONSTRAINT api_keys_roles CHECK (roles <@ '{member,platform_admin}'::text[]);

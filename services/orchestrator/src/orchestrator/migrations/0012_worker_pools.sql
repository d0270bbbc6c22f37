-- Pools of workers that operators made at run time. Those of the configuration are not here.
CREATE TABLE orchestration.worker_pools (
    tenant_id text NOT NULL CHECK (tenant_id = '*'),
    name text NOT NULL,
    min_replicas integer NOT NULL CHECK (min_replicas >= 0),
    max_replicas integer NOT NULL CHECK (max_replicas >= 1 AND max_replicas >= min_replicas),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Since when it takes no new jobs; NULL: it takes them.
    draining_since timestamptz,
    PRIMARY KEY (tenant_id, name)
);

-- Whose jobs run in which of them; without a row, in that of the tenant's plan.
CREATE TABLE orchestration.pool_tenants (
    tenant_id text NOT NULL CHECK (tenant_id NOT IN ('', '*')),
    pool text NOT NULL,
    PRIMARY KEY (tenant_id)
);

SELECT isolate_tenants('orchestration.worker_pools', 'orchestration.pool_tenants');

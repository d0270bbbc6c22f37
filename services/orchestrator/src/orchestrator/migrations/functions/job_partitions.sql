-- Makes the partitions of `finished_jobs` from today to `days_ahead` days from now, and drops those of days that are over.
-- Runs as the schema's owner, because the app role owns no table. Each change takes a short lock on `finished_jobs`; a lock
-- that does not come in time is left to the next call. Safe to run concurrently.
CREATE OR REPLACE FUNCTION orchestration.keep_job_partitions(days_ahead integer, OUT made integer, OUT dropped integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    day date;
    name text;
BEGIN
    made := 0;
    dropped := 0;
    PERFORM pg_advisory_xact_lock(hashtextextended('orchestration.finished_jobs', 0));
    FOR day IN SELECT d::date FROM generate_series(today, today + least(days_ahead, 400), interval '1 day') AS d LOOP
        name := 'finished_jobs_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('orchestration.' || name) IS NOT NULL;
        -- Made apart and attached: that blocks no reader and no writer of the other partitions.
        EXECUTE format('CREATE TABLE orchestration.%I (LIKE orchestration.finished_jobs INCLUDING ALL)', name);
        PERFORM orchestration.isolate_tenants(format('orchestration.%I', name)::regclass);
        EXECUTE format(
            'ALTER TABLE orchestration.finished_jobs ATTACH PARTITION orchestration.%I FOR VALUES FROM (%L) TO (%L)',
            name, day, day + 1
        );
        made := made + 1;
    END LOOP;
    FOR name IN
        SELECT relname FROM pg_class
        WHERE relnamespace = 'orchestration'::regnamespace AND relkind = 'r' AND relname ~ '^finished_jobs_[0-9]{8}$'
            AND relname < 'finished_jobs_' || to_char(today, 'YYYYMMDD')
    LOOP
        BEGIN
            EXECUTE format('DROP TABLE orchestration.%I', name);
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available THEN
            EXIT;
        END;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION orchestration.keep_job_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orchestration.keep_job_partitions(integer) TO orchestrator_app;

-- What cached answers cost is reserved with what they consumed (functions/reserve.sql).

-- contract: `functions/` makes it again at once, with one more argument that has a default: older callers go on.
DROP FUNCTION IF EXISTS metering.reserve(
    text[], text[], bigint[], interval[], jsonb[], text[], text[], text[], bigint, integer
);

-- Replicas of the version before know no other space than 0, and embed with their own model. While they still run, and
-- after a rollback, they leave alone what has vectors of another model: it waits for a replica that knows of spaces.

-- The epoch of the last claim by a replica that knows of spaces; another one than `epoch` was claimed by an older one.
ALTER TABLE attachments ADD COLUMN spaces_epoch bigint;

-- The change is skipped, as if another process had the file: an older replica then goes on with its next one.
CREATE FUNCTION skip_files_of_other_spaces() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM vector_stores AS s
    WHERE s.tenant_id = NEW.tenant_id AND s.vector_store_id = NEW.vector_store_id
        AND (s.space <> 0 OR s.next_space IS NOT NULL);
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER older_replicas_claim_no_files_of_other_spaces BEFORE UPDATE OF epoch, chunks ON attachments
    FOR EACH ROW WHEN (
        NEW.spaces_epoch IS DISTINCT FROM NEW.epoch AND (NEW.epoch > OLD.epoch OR NEW.chunks > OLD.chunks)
    ) EXECUTE FUNCTION skip_files_of_other_spaces();

-- A deletion that an older replica takes for done stays until the vectors of other spaces are gone, too.
CREATE FUNCTION keep_deletions_of_remaining_vectors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM chunk_vectors AS v WHERE v.attachment = OLD.attachment AND v.tenant_id = OLD.tenant_id;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER deletions_end_with_their_vectors BEFORE DELETE ON deletions
    FOR EACH ROW WHEN (OLD.attachment IS NOT NULL) EXECUTE FUNCTION keep_deletions_of_remaining_vectors();

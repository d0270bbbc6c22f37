-- Who has put a price in force, and why. Rows from before have neither.
ALTER TABLE metering.prices
    ADD COLUMN author text NOT NULL DEFAULT '' CHECK (length(author) <= 256),
    ADD COLUMN reason text NOT NULL DEFAULT '' CHECK (length(reason) <= 500);

-- The audit reads the youngest entries by this index; what it has not summarized yet is read whole each time.
ALTER INDEX metering.ledger_entries_by_time SET (autosummarize = on);

-- Claims in SQLite.
--
-- key      the call key, "<prefix>:<hash>"
-- claim    one `jobtastic_ext.claims.records.Claim` as JSON, defaults left out
-- expires  when the claim ends, in ms since 1970 by the machine's clock;
--          90000000000000 for never.  An expired row counts as absent until it is purged.
CREATE TABLE IF NOT EXISTS claims (
    key     TEXT PRIMARY KEY,
    claim   BLOB NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claims_by_expiry ON claims (expires);

-- What past runs of a task took, for estimates.
--
-- key      "<prefix>:%history:<task>", with ":<group>" behind it for a group of calls
-- value    one letter and a `jobtastic_ext.estimates.estimator.History`, encoded
-- expires  as above
CREATE TABLE IF NOT EXISTS histories (
    key     TEXT PRIMARY KEY,
    value   BLOB NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS histories_by_expiry ON histories (expires);

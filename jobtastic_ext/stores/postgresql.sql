-- Claims, and what past runs took, in PostgreSQL.
--
-- name     the call key, "<prefix>:<hash>"; or "<prefix>:%history:<task>"
-- value    one `jobtastic_ext.claims.records.Claim` as JSON; or an encoded history
-- version  another number with each change, which is made only if it is still the one that was read
-- expires  when the row ends, in ms since 1970 by the server's clock; 90000000000000 for never.
--          An expired row counts as absent until it is purged.
CREATE TABLE IF NOT EXISTS jobtastic_claims (
    name    varchar(255) COLLATE "C" PRIMARY KEY,
    value   bytea NOT NULL,
    version bigint NOT NULL,
    expires bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS jobtastic_claims_by_expiry ON jobtastic_claims (expires);

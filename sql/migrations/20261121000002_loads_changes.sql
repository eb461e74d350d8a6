-- How many changes had been told when a load took its place: coherence.changes(). What came since would be lost by the
-- next one. Null for loads before this migration.

alter table service.loads add column changes bigint;

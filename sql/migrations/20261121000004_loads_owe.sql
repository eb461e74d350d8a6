-- What a load that is in place still has to do, written by its own transaction: a load that is stopped behind it leaves
-- the mark, by which the next one knows. False for loads before this migration.

alter table service.loads
  add column owes_purge      boolean not null default false,
  add column owes_statistics boolean not null default false;

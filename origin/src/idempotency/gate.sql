-- $1 scope, $2 digest of the body, $3 lock; all null without a key.
with stored as materialized (
  select k.digest, k.location, k.groups, k.created_at > now() - interval '24 hours' as is_fresh
    from service.idempotency_keys k
   where k.scope = $1::bytea
),
gate as materialized (
  select case
           when $1::bytea is null then 'open'
           when (select stored.is_fresh from stored) then 'stored'
           when (select not stored.is_fresh from stored) then 'expired'
           when pg_try_advisory_xact_lock($3::int8) then 'open'
           else 'busy'
         end as state
),

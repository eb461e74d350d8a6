remembered as (
  insert into service.idempotency_keys (scope, digest, status, location, groups)
  select $1::bytea, $2::bytea, 201, created.location, created.groups
    from created
   where $1::bytea is not null
)
select gate.state,
       stored.digest,
       coalesce(created.location, stored.location) as location,
       coalesce(created.groups, stored.groups) as groups,
       -- Of a replay too: whoever has seen this transaction end has seen the first one.
       case when cardinality(coalesce(created.groups, stored.groups)) > 0 then coherence.token() end as token
  from gate
  left join stored on true
  left join created on true

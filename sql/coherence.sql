-- Coherence: the database tells every cache what has changed.
--
-- Each transaction appends the cache groups it touched to an outbox, in the same transaction: a change and the news of
-- it commit together or not at all. Needs nothing of the shop: map any table to groups with coherence.watch().
-- Can be run again at any time. Needs a superuser (event triggers), Postgres 14 or later.

create schema if not exists coherence;

-- The outbox -----------------------------------------------------------------------------------------------------------

-- Three tables used in turn: rows are never deleted one by one, the oldest table is truncated as a whole.
create table if not exists coherence.outbox (
  slot        smallint    not null,
  xid         xid8        not null default pg_current_xact_id(),
  groups      text[]      not null,  -- '*' is everything
  appended_at timestamptz not null default clock_timestamp()
) partition by list (slot);
create table if not exists coherence.outbox_0 partition of coherence.outbox for values in (0);
create table if not exists coherence.outbox_1 partition of coherence.outbox for values in (1);
create table if not exists coherence.outbox_2 partition of coherence.outbox for values in (2);
-- The tailer: the rows of transactions that a position does not include.
create index if not exists outbox_xid_idx on coherence.outbox (xid);

-- The slot that is written now. rotated_at and snapshot are those of the last change of slot; trimmed is a snapshot that
-- includes every row ever truncated: a reader whose position does not include it has missed something.
create table if not exists coherence.rotation (
  only_row   boolean     primary key default true check (only_row),
  slot       smallint    not null default 0,
  rotated_at timestamptz not null default now(),
  snapshot   pg_snapshot not null default pg_current_snapshot(),
  trimmed    pg_snapshot
);
insert into coherence.rotation default values on conflict do nothing;

-- How many changes were told by rows that have been truncated since.
create table if not exists coherence.trimmed (
  only_row boolean primary key default true check (only_row),
  changes  bigint  not null default 0
);
insert into coherence.trimmed default values on conflict do nothing;

-- Emptied by crash recovery and by promotion, after which a transaction number can be used again: a new id makes every
-- older position and token void. The server is its system identifier and timeline: rows that were restored from another
-- server name that one.
create unlogged table if not exists coherence.incarnation (
  only_row boolean primary key default true check (only_row),
  id       uuid    not null default gen_random_uuid(),
  server   text
);
alter table coherence.incarnation add column if not exists server text;

-- The id of the present incarnation, made if there is none of this server.
create or replace function coherence.incarnate() returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  present text := (select control.system_identifier || '.' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
                     from pg_control_system() as control);
begin
  delete from coherence.incarnation i where i.server is distinct from present;
  insert into coherence.incarnation (server) values (present) on conflict do nothing;
  return (select i.id from coherence.incarnation i);
end
$$;

-- Names this transaction for all time, `number@incarnation`: who has seen as much of that incarnation has seen its changes.
create or replace function coherence.token() returns text
language plpgsql volatile
as $$
declare
  incarnation text := (select i.server || '.' || i.id from coherence.incarnation i);
begin
  if incarnation is null then
    perform coherence.incarnate();
    incarnation := (select i.server || '.' || i.id from coherence.incarnation i);
  end if;
  return pg_current_xact_id() || '@' || incarnation;
end
$$;

-- What was restored from another server is replaced before anybody writes.
select coherence.incarnate();

-- Appends the groups that this transaction touched. A no-op for an empty list.
create or replace function coherence.append(groups text[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  insert into coherence.outbox (slot, groups)
  select rotation.slot, append.groups from coherence.rotation where cardinality(append.groups) > 0;
$$;

-- Marks this transaction: its author appends its groups itself, and the statement triggers stay silent. Holds for the
-- one transaction only, whatever the session does with the setting later. Fails while somebody holds changes back.
create or replace function coherence.mark() returns text
language plpgsql volatile
as $$
begin
  if not pg_try_advisory_xact_lock_shared(coherence.hold_key()) then
    raise exception 'changes are held back' using errcode = 'LD001';
  end if;
  return set_config('coherence.marked', pg_current_xact_id()::text, true);
end
$$;

-- The advisory lock that marked transactions share. Who takes it alone waits for those that are open and makes later
-- ones fail at once, until it is given back or the session ends, however it ends.
create or replace function coherence.hold_key() returns bigint
language sql immutable
as $$ select 7019261403928160514 $$;

-- How many changes have ever been told: a transaction that marked itself tells one, any other one for each of its
-- statements. '*', which is no change of rows, does not count.
create or replace function coherence.changes() returns bigint
language plpgsql volatile
as $$
begin
  -- Not while rows are truncated: the next statement sees all of them, or their number.
  perform from coherence.rotation for share;
  return (select changes from coherence.trimmed) + (select count(*) from coherence.outbox where groups <> array['*']);
end
$$;

-- Whether every transaction that is visible in the older snapshot is visible in the newer one.
create or replace function coherence.includes(newer pg_snapshot, older pg_snapshot) returns boolean
language sql immutable strict
as $$
  select pg_snapshot_xmax(newer) >= pg_snapshot_xmax(older)
     and not exists (
           select from pg_snapshot_xip(newer) as running (xid)
            where running.xid < pg_snapshot_xmax(older)
              and pg_visible_in_snapshot(running.xid, older))
$$;

-- Moves to the next slot when the present one has been written for at least min_age, and truncates what the next one
-- held. Does nothing, and says so, while a transaction that wrote there is still open or a reader still reads there.
create or replace function coherence.rotate(min_age interval default '1 hour') returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  state   coherence.rotation;
  next    smallint;
  unseen  boolean;
  told    bigint;
begin
  select * into state from coherence.rotation for update skip locked;
  if not found or state.rotated_at > clock_timestamp() - min_age then
    return false;
  end if;
  next := (state.slot + 1) % 3;
  begin
    execute format('lock table coherence.outbox_%s in access exclusive mode nowait', next);
  exception when lock_not_available then
    return false;
  end;
  -- The snapshot of the last change of slot includes all rows of the slot left before that, but for those of a
  -- transaction that was already open then: its rows must outlive one more turn.
  execute format('select exists (select from coherence.outbox_%s where not pg_visible_in_snapshot(xid, $1))', next)
     into unseen using state.snapshot;
  if not unseen then
    execute format('select count(*) from coherence.outbox_%s where groups <> array[''*'']', next) into told;
    update coherence.trimmed set changes = changes + told;
    execute format('truncate coherence.outbox_%s', next);
    update coherence.rotation
       set slot = next, rotated_at = clock_timestamp(), snapshot = pg_current_snapshot(), trimmed = state.snapshot;
    return true;
  end if;
  -- Try again a turn later with a snapshot of now.
  update coherence.rotation set rotated_at = clock_timestamp(), snapshot = pg_current_snapshot();
  return false;
end
$$;

-- Rows that were restored from another server may carry transaction numbers that are not yet given here: nobody would see
-- them, and rotation would wait for them. What is visible and of another transaction has a number below xmax, always.
do $$
begin
  if exists (select from coherence.outbox
              where xid >= pg_snapshot_xmax(pg_current_snapshot()) and xid <> pg_current_xact_id())
     or exists (select from coherence.rotation
                 where pg_snapshot_xmax(snapshot) > pg_snapshot_xmax(pg_current_snapshot())) then
    update coherence.trimmed
       set changes = changes + (select count(*) from coherence.outbox where groups <> array['*']);
    truncate coherence.outbox;
    delete from coherence.rotation;
    insert into coherence.rotation default values;
  end if;
end
$$;

-- Table to groups ------------------------------------------------------------------------------------------------------

-- Which groups a change of a row touches: {column} in a template stands for that column's value in the old and the new row.
-- With columns, an update touches the group only if one of them changed. This is also the manifest that readiness checks.
create table if not exists coherence.mapping (
  relation text   not null,  -- 'schema.table'
  template text   not null,
  columns  text[],
  constraint mapping_pkey primary key (relation, template)
);

-- The expression that makes a template's group of one row: 'product-{id}' becomes 'product-' || coalesce(id::text, '').
create or replace function coherence.group_expression(template text) returns text
language sql immutable strict
as $$
  select string_agg(
           case when part.text like '{%}' then format('coalesce(%I::text, '''')', btrim(part.text, '{}'))
                else quote_literal(part.text) end,
           ' || ' order by part.position)
    from regexp_matches(template, '\{[^{}]+\}|[^{}]+', 'g') with ordinality as part_match (match, position),
         lateral (select part_match.match[1] as text, part_match.position) as part
$$;

-- The query that yields the groups of one mapping from the transition tables: for an update, the rows of which a named
-- column (or one that the template names) differs, taken from both sides. For an 'update by text' rows are compared by their
-- text, as it is what an answer shows: json, xml and points cannot be compared otherwise, and 1.0 equals 1.00 as a number.
create or replace function coherence.group_query(template text, columns text[], operation text) returns text
language sql immutable
as $$
  select case operation
    when 'insert' then format('select %s as g from new_rows', coherence.group_expression(template))
    when 'delete' then format('select %s as g from old_rows', coherence.group_expression(template))
    when 'update' then format(
      'select %1$s as g from ((select %2$s from old_rows except all select %2$s from new_rows)'
      ' union all (select %2$s from new_rows except all select %2$s from old_rows)) as changed',
      coherence.group_expression(template), compared.names)
    else format(
      'select g from ((select %1$s as g, %2$s from old_rows except all select %1$s, %3$s from new_rows)'
      ' union all (select %1$s, %3$s from new_rows except all select %1$s, %2$s from old_rows)) as changed',
      coherence.group_expression(template), compared.of_old, compared.of_new)
  end
    from (select coalesce(string_agg(format('%I', named.column_name), ', '), '*') as names,
                 coalesce(string_agg(format('%I::text', named.column_name), ', '), '(old_rows.*)::text') as of_old,
                 coalesce(string_agg(format('%I::text', named.column_name), ', '), '(new_rows.*)::text') as of_new
            from (select unnest(columns)
                   union
                  select btrim(m[1], '{}') from regexp_matches(template, '\{[^{}]+\}', 'g') as m
                   where columns is not null) as named (column_name)) as compared
$$;

-- The trigger function of a relation. Postgres cuts names at 63 bytes: of a longer one the relation's hash is used.
create or replace function coherence.function_name(relation text, operation text) returns text
language sql immutable
as $$
  select case when octet_length(relation || ':' || operation) < 64 then relation else md5(relation) end || ':' || operation
$$;

-- The statement that appends the groups of all mappings of a relation.
create or replace function coherence.append_statement(relation text, operation text) returns text
language sql stable
as $$
  select format('perform coherence.append(array(select distinct g from (%s) as touched));',
                string_agg(coherence.group_query(m.template, m.columns, operation), ' union all '))
    from coherence.mapping m
   where m.relation = append_statement.relation
$$;

-- Makes the trigger functions of a relation from its mappings. Text takes a third longer to compare in a statement of many
-- rows (200,000 reviews: 5.4 s and 3.9 s), so it is compared only where equal values may differ in it, or some have no
-- equality. That is asked at run time, as columns come and go: it takes a look-up of them a statement.
create or replace function coherence.define_triggers(relation text) returns void
language plpgsql volatile
as $$
declare
  operation  text;
  statements text;
begin
  foreach operation in array array['insert', 'update', 'delete'] loop
    statements := coherence.append_statement(relation, operation);
    if operation = 'update' then
      statements := format(
        'if exists (select from pg_attribute a'
        ' where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped'
        -- Exact are types without two spellings of a value, a numeric of a fixed scale, and collations that tell all bytes apart.
        ' and not ((a.atttypid = any (%L::regtype[]) or a.atttypid = %L::regtype and a.atttypmod > 0)'
        ' and a.attcollation in (0, %s)))'
        ' then %s else %s end if;',
        '{bool,bytea,int2,int4,int8,text,varchar,date,timestamp,timestamptz,uuid,int4[],int8[],text[]}', 'numeric',
        (select string_agg(c.oid::text, ', ') from pg_collation c
          where c.collname in ('default', 'C', 'POSIX') and c.collnamespace = 'pg_catalog'::regnamespace),
        coherence.append_statement(relation, 'update by text'), statements);
    end if;
    execute format(
      'create or replace function coherence.%I() returns trigger language plpgsql security definer'
      -- All digits of a float: its text is compared.
      ' set search_path = pg_catalog, pg_temp set extra_float_digits = 1 as %L',
      coherence.function_name(relation, operation),
      format('begin %s return null; end', statements));
  end loop;
end
$$;

-- A transaction of many schema changes says so once.
create or replace function coherence.append_everything_once() returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select coherence.append(array['*'])
   where not exists (select from coherence.outbox o where o.xid = pg_current_xact_id() and o.groups = array['*']);
$$;

create or replace function coherence.append_everything() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$ begin perform coherence.append_everything_once(); return null; end $$;

-- Puts the statement triggers of a mapped relation on a table: the relation itself, or the table that will take its place.
create or replace function coherence.attach(relation text, target regclass) returns void
language plpgsql volatile
as $$
declare
  operation  text;
  transition text;
  trigger    text;
begin
  foreach operation in array array['insert', 'update', 'delete', 'truncate'] loop
    trigger := 'coherence_' || operation;
    transition := case operation
      when 'insert' then 'referencing new table as new_rows'
      when 'update' then 'referencing old table as old_rows new table as new_rows'
      when 'delete' then 'referencing old table as old_rows'
      else '' end;
    execute format('drop trigger if exists %I on %s', trigger, target);
    -- Spelled out: of an SQL function in a condition every statement reads the text anew, for each of its triggers.
    execute format(
      'create trigger %I after %s on %s %s for each statement'
      ' when (current_setting(''coherence.marked'', true) is distinct from coalesce(pg_current_xact_id_if_assigned()::text, ''-''))'
      ' execute function coherence.%I()',
      trigger, operation, target, transition,
      case operation when 'truncate' then 'append_everything' else coherence.function_name(relation, operation) end);
    -- Sessions of role replica, as restores use it, must tell the caches too. The apply worker of logical replication would
    -- still not: it fires no statement triggers. missing_triggers() names such tables.
    execute format('alter table %s enable always trigger %I', target, trigger);
  end loop;
end
$$;

-- Maps a table to a group. Call coherence.install() after the last one.
create or replace function coherence.watch(relation text, template text, columns text[] default null) returns void
language sql volatile
as $$
  insert into coherence.mapping (relation, template, columns) values (relation, template, columns)
  on conflict (relation, template) do update set columns = excluded.columns
$$;

-- The triggers that should be there and are not, are disabled or call another function, and tables that change past them:
-- those that a subscription fills, and partitions or inheriting tables without triggers of their own, as a statement that
-- names one fires no triggers of its parent. Readiness fails while this returns a row.
create or replace function coherence.missing_triggers() returns table (relation text, trigger text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with recursive watched as (
    select distinct m.relation, to_regclass(m.relation) as id from coherence.mapping m
  ), part as (
    select w.relation, i.inhrelid as id from watched w join pg_inherits i on i.inhparent = w.id
     union
    select p.relation, i.inhrelid from part p join pg_inherits i on i.inhparent = p.id
  )
  select expected.relation, expected.trigger
    from (select w.relation, w.id, 'coherence_' || o.operation as trigger,
                 case o.operation when 'truncate' then 'append_everything'
                      else coherence.function_name(w.relation, o.operation) end as function
            from watched w, unnest(array['insert', 'update', 'delete', 'truncate']) as o (operation)) as expected
   where not exists (
           select from pg_trigger t
            where t.tgrelid = expected.id and t.tgname = expected.trigger and t.tgenabled = 'A'
              and t.tgfoid = to_regprocedure(format('coherence.%I()', expected.function)))
  union all
  select w.relation, 'none for rows of a subscription' from watched w join pg_subscription_rel s on s.srrelid = w.id
  union all
  select p.relation, 'none on its part ' || p.id::regclass
    from part p
   where (select count(*) from pg_trigger t
           where t.tgrelid = p.id and t.tgname like 'coherence\_%' and t.tgenabled = 'A') < 4
  union all
  select 'event', expected.name
    from unnest(array['coherence_ddl', 'coherence_drop']) as expected (name)
   where not exists (select from pg_event_trigger e where e.evtname = expected.name and e.evtenabled = 'A')
$$;

-- Makes the functions of every mapped relation, and puts the triggers on those tables that lack them.
create or replace function coherence.install() returns void
language plpgsql volatile
as $$
declare
  mapped text;
  past   text;
begin
  for mapped in select distinct m.relation from coherence.mapping m order by 1 loop
    perform coherence.define_triggers(mapped);
    -- Triggers that are there are left alone: putting them on locks the table and is itself a schema change.
    if exists (select from coherence.missing_triggers() m where m.relation = mapped)
       and to_regclass(mapped) is not null then
      perform coherence.attach(mapped, to_regclass(mapped));
    end if;
  end loop;
  select string_agg(m.relation || ': ' || m.trigger, ', ' order by m.relation, m.trigger)
    into past from coherence.missing_triggers() m where m.trigger like 'none %';
  if past is not null then
    raise exception 'changes would go untold: %', past
      using hint = 'Watch parts like tables; a table that a subscription fills cannot be watched.';
  end if;
end
$$;

-- Schema changes and table swaps ---------------------------------------------------------------------------------------

create or replace function coherence.is_watched(schema_name text, object_identity text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from coherence.mapping m
     where split_part(m.relation, '.', 1) in (schema_name, object_identity))
$$;

create or replace function coherence.on_ddl() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
       select from pg_event_trigger_ddl_commands() c
        where c.command_tag not in ('COMMENT', 'GRANT', 'REVOKE', 'CREATE INDEX', 'ALTER INDEX', 'CREATE STATISTICS')
          and coherence.is_watched(c.schema_name, c.object_identity)) then
    perform coherence.append_everything_once();
  end if;
end
$$;

create or replace function coherence.on_drop() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
       select from pg_event_trigger_dropped_objects() d
        where d.object_type in ('schema', 'table', 'table column', 'trigger')
          and coherence.is_watched(d.schema_name, d.object_identity)) then
    perform coherence.append_everything_once();
  end if;
end
$$;

drop event trigger if exists coherence_ddl;
create event trigger coherence_ddl on ddl_command_end execute function coherence.on_ddl();
alter event trigger coherence_ddl enable always;
drop event trigger if exists coherence_drop;
create event trigger coherence_drop on sql_drop execute function coherence.on_drop();
alter event trigger coherence_drop enable always;

-- What the origin's role may do: read and write rows, never define or truncate. Covers the schema that the search path
-- names first (the shop's tables, or those of a load that will take their place) and what the service keeps itself.

grant usage on schema service, coherence to atelier_app;
grant select, insert, update, delete on all tables in schema service to atelier_app;
grant select on coherence.rotation, coherence.mapping, coherence.incarnation to atelier_app;
grant select, insert on coherence.outbox to atelier_app;

-- What Postgres grants to everybody of its own accord: temporary tables, and before version 15 tables in schema public.
revoke create on schema public from public;
do $$
begin
  execute format('revoke temporary on database %I from public', current_database());
end
$$;

do $$
begin
  execute format('grant usage on schema %I to atelier_app', current_schema());
  execute format('grant select, insert, update, delete on all tables in schema %I to atelier_app', current_schema());
  execute format('grant usage on all sequences in schema %I to atelier_app', current_schema());
end
$$;

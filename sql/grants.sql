-- What the origin's role may do: read and write rows, never define or truncate. Covers the schema that the search path
-- names first (the shop's tables, or those of a load that will take their place) and what the service keeps itself.

grant usage on schema service, coherence to atelier_app;
grant select, insert, update, delete on all tables in schema service to atelier_app;
grant select on coherence.rotation, coherence.mapping, coherence.incarnation to atelier_app;
grant select, insert on coherence.outbox to atelier_app;

do $$
begin
  execute format('grant usage on schema %I to atelier_app', current_schema());
  execute format('grant select, insert, update, delete on all tables in schema %I to atelier_app', current_schema());
  execute format('grant usage on all sequences in schema %I to atelier_app', current_schema());
end
$$;

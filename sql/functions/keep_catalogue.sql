-- Keeps related.related_exists (whether the related id is a product) and shop.product_counts.

create or replace function service.fill_related_exists() returns trigger
language plpgsql as $$
begin
  new.related_exists := exists (select from shop.products p where p.id = new.related_id);
  return new;
end
$$;

-- Counts a product in (1) or out of (-1) its run of ids; a run that had none gets its row.
create or replace function service.count_product(product integer, direction integer) returns void
language plpgsql volatile
as $$
begin
  update shop.product_counts set count = count + direction where run = product / 1024;
  if not found then
    insert into shop.product_counts as held (run, count) values (product / 1024, direction)
    on conflict (run) do update set count = held.count + direction;
  end if;
end
$$;

create or replace function service.on_product() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' then
    update shop.related set related_exists = false where related_id = old.id and related_exists;
    perform service.count_product(old.id, -1);
  end if;
  if tg_op <> 'DELETE' then
    update shop.related set related_exists = true where related_id = new.id and not related_exists;
    perform service.count_product(new.id, 1);
  end if;
  return null;
end
$$;

create or replace function service.on_product_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from shop.product_counts;
  return null;
end
$$;

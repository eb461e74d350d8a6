-- Keeps related.related_exists: whether the related id is a product.

create or replace function service.fill_related_exists() returns trigger
language plpgsql as $$
begin
  new.related_exists := exists (select from shop.products p where p.id = new.related_id);
  return new;
end
$$;

create or replace function service.on_product() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' then
    update shop.related set related_exists = false where related_id = old.id and related_exists;
  end if;
  if tg_op <> 'DELETE' then
    update shop.related set related_exists = true where related_id = new.id and not related_exists;
  end if;
  return null;
end
$$;

-- Keeps shop.review_meta for SQL that the origin did not write. The origin's own statements change the row themselves
-- and mark their transaction, which silences these triggers (indexes/05_triggers.sql).

-- Makes the row of a product if it has none, and locks it: changes of one product's counts come one after the other.
create or replace function service.lock_review_meta(product integer) returns void
language sql volatile
as $$
  insert into shop.review_meta (product_id) values (product) on conflict (product_id) do nothing;
  select from shop.review_meta where product_id = product for update;
$$;

-- Adds a review to the counts of its product (direction 1), or takes it out (-1).
create or replace function service.count_review(product integer, stars integer, recommended boolean, direction integer)
returns void
language plpgsql volatile
as $$
begin
  perform service.lock_review_meta(product);
  update shop.review_meta
     set ratings[stars] = ratings[stars] + direction,
         recommended_true = recommended_true + direction * recommended::integer,
         recommended_false = recommended_false + direction * (not recommended)::integer
   where product_id = product;
end
$$;

create or replace function service.on_review() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' then
    perform service.count_review(old.product_id, old.rating, old.recommend, -1);
  end if;
  if tg_op <> 'DELETE' then
    perform service.count_review(new.product_id, new.rating, new.recommend, 1);
  end if;
  return null;
end
$$;

-- Adds a vote to the sum and count of its characteristic, or takes it out.
create or replace function service.count_vote(product integer, characteristic integer, vote integer, direction integer)
returns void
language plpgsql volatile
as $$
declare
  slot integer;
begin
  perform service.lock_review_meta(product);
  select array_position(characteristic_ids, characteristic) into slot
    from shop.review_meta where product_id = product;
  if slot is not null then
    update shop.review_meta
       set characteristic_sums[slot] = characteristic_sums[slot] + direction * vote,
           characteristic_counts[slot] = characteristic_counts[slot] + direction
     where product_id = product;
  end if;
end
$$;

create or replace function service.on_characteristic_review() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' then
    perform service.count_vote(old.product_id, old.characteristic_id, old.value, -1);
  end if;
  if tg_op <> 'DELETE' then
    perform service.count_vote(new.product_id, new.characteristic_id, new.value, 1);
  end if;
  return null;
end
$$;

-- Takes the characteristics of one product and their votes anew from the base tables.
create or replace function service.refresh_characteristics(product integer) returns void
language plpgsql volatile
as $$
begin
  perform service.lock_review_meta(product);
  update shop.review_meta
     set (characteristic_ids, characteristic_names, characteristic_sums, characteristic_counts) = (
           select coalesce(array_agg(c.id order by c.id), '{}'),
                  coalesce(array_agg(c.name order by c.id), '{}'),
                  coalesce(array_agg(v.sum order by c.id), '{}'),
                  coalesce(array_agg(v.count order by c.id), '{}')
             from shop.characteristics c,
                  lateral (select coalesce(sum(r.value), 0)::bigint as sum, count(*)::integer as count
                             from shop.characteristic_reviews r where r.characteristic_id = c.id) as v
            where c.product_id = product)
   where product_id = product;
end
$$;

create or replace function service.on_characteristic() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' then
    perform service.refresh_characteristics(old.product_id);
  end if;
  if tg_op <> 'DELETE' then
    perform service.refresh_characteristics(new.product_id);
  end if;
  return null;
end
$$;

-- After TRUNCATE of what the counts are taken from: all of them anew.
create or replace function service.on_review_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_table_name = 'reviews' then
    update shop.review_meta set ratings = default, recommended_false = 0, recommended_true = 0;
  end if;
  perform service.refresh_characteristics(m.product_id) from shop.review_meta m order by m.product_id;
  return null;
end
$$;

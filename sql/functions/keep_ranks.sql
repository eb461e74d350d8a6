-- Keeps the ranks of popular products (schema/05_ranks.sql): for SQL that the origin did not write, whose statements
-- change the ranks themselves, and for products that have become popular since the load.

-- From how many rows of a list on its ranks are kept. At 1,000,011 products 257 rows take 26 buffers and 0.15 ms to sort,
-- a page by ranks 45 and 0.06; the largest, of 10,238, takes 658 and 6 ms.
create or replace function service.ranked_rows_min() returns integer language sql immutable as $$ select 257 $$;

create or replace function service.on_ranked_review() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  is_ranked boolean := exists (select from shop.ranked_products p where p.list = 'reviews' and p.product_id = new.product_id);
begin
  if tg_op = 'UPDATE' then
    update shop.review_ranks
       set date = new.date, product_id = new.product_id, helpfulness = new.helpfulness, reported = new.reported
     where review_id = new.id and is_ranked;
    if found or old.product_id = new.product_id then
      return null;
    end if;
    delete from shop.review_ranks where review_id = new.id;
  end if;
  if is_ranked then
    if tg_op = 'UPDATE' then
      -- A vote that waits for this row began before its rank came to be: one of the two has to fail.
      lock table shop.reviews in share row exclusive mode;
    end if;
    insert into shop.review_ranks (date, review_id, product_id, helpfulness, reported)
    values (new.date, new.id, new.product_id, new.helpfulness, new.reported);
  end if;
  return null;
end
$$;

create or replace function service.on_ranked_question() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  is_ranked boolean := exists (select from shop.ranked_products p where p.list = 'questions' and p.product_id = new.product_id);
begin
  if tg_op = 'UPDATE' then
    update shop.question_ranks
       set date = new.date, product_id = new.product_id, helpfulness = new.helpfulness, reported = new.reported
     where question_id = new.id and is_ranked;
    if found or old.product_id = new.product_id then
      return null;
    end if;
    delete from shop.question_ranks where question_id = new.id;
  end if;
  if is_ranked then
    if tg_op = 'UPDATE' then
      lock table shop.questions in share row exclusive mode;
    end if;
    insert into shop.question_ranks (date, question_id, product_id, helpfulness, reported)
    values (new.date, new.id, new.product_id, new.helpfulness, new.reported);
  end if;
  return null;
end
$$;

-- Ranks the products that have become popular, as far as the newest rows of each list name them: at most products_max
-- of each list, in a transaction of its own. Says how many. A product that is missed is sorted until it gets another row.
-- The lock lets no one write to the list's table meanwhile. If it is not to be had at once, the next time will do.
create or replace function service.rank_products(newest integer, products_max integer) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
declare
  reviewed integer[];
  asked integer[];
begin
  reviewed := array(
    select c.product_id
      from (select distinct n.product_id
              from (select r.product_id from shop.reviews r order by r.id desc limit newest) as n) as c
     where not exists (select from shop.ranked_products p where p.list = 'reviews' and p.product_id = c.product_id)
       and exists (select from shop.reviews r where r.product_id = c.product_id offset service.ranked_rows_min() - 1)
     limit products_max);
  asked := array(
    select c.product_id
      from (select distinct n.product_id
              from (select q.product_id from shop.questions q order by q.id desc limit newest) as n) as c
     where not exists (select from shop.ranked_products p where p.list = 'questions' and p.product_id = c.product_id)
       and exists (select from shop.questions q where q.product_id = c.product_id offset service.ranked_rows_min() - 1)
     limit products_max);
  -- Another origin may do the same: what it has ranked is right already.
  if cardinality(reviewed) > 0 then
    lock table shop.reviews in share row exclusive mode;
    insert into shop.ranked_products (list, product_id)
    select 'reviews', product_id from unnest(reviewed) as product_id
    on conflict do nothing;
    insert into shop.review_ranks (date, review_id, product_id, helpfulness, reported)
    select r.date, r.id, r.product_id, r.helpfulness, r.reported from shop.reviews r where r.product_id = any (reviewed)
    on conflict do nothing;
  end if;
  if cardinality(asked) > 0 then
    lock table shop.questions in share row exclusive mode;
    insert into shop.ranked_products (list, product_id)
    select 'questions', product_id from unnest(asked) as product_id
    on conflict do nothing;
    insert into shop.question_ranks (date, question_id, product_id, helpfulness, reported)
    select q.date, q.id, q.product_id, q.helpfulness, q.reported from shop.questions q where q.product_id = any (asked)
    on conflict do nothing;
  end if;
  return cardinality(reviewed) + cardinality(asked);
exception when lock_not_available then
  return 0;
end
$$;

-- Keeps the product_id (and question_id) that children carry, for SQL that the origin did not write: filled in on insert
-- when left out, carried along when the parent moves.

create or replace function service.fill_from_style() returns trigger
language plpgsql as $$
begin
  select s.product_id into new.product_id from shop.styles s where s.id = new.style_id;
  return new;
end
$$;

create or replace function service.fill_from_review() returns trigger
language plpgsql as $$
begin
  select r.product_id into new.product_id from shop.reviews r where r.id = new.review_id;
  return new;
end
$$;

create or replace function service.fill_from_question() returns trigger
language plpgsql as $$
begin
  select q.product_id into new.product_id from shop.questions q where q.id = new.question_id;
  return new;
end
$$;

create or replace function service.fill_from_answer() returns trigger
language plpgsql as $$
begin
  select a.product_id, a.question_id into new.product_id, new.question_id from shop.answers a where a.id = new.answer_id;
  return new;
end
$$;

create or replace function service.move_children() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  case tg_table_name
    when 'styles' then
      update shop.skus set product_id = new.product_id where style_id = new.id;
      update shop.photos set product_id = new.product_id where style_id = new.id;
    when 'reviews' then
      update shop.review_photos set product_id = new.product_id where review_id = new.id;
      update shop.characteristic_reviews set product_id = new.product_id where review_id = new.id;
    when 'questions' then
      update shop.answers set product_id = new.product_id where question_id = new.id;
    when 'answers' then
      update shop.answer_photos set product_id = new.product_id, question_id = new.question_id where answer_id = new.id;
  end case;
  return null;
end
$$;

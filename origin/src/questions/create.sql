-- $4 product, $5 body, $6 name, $7 email.
-- The mark precedes every change: the triggers for other programs' writes stay silent.
admitted as materialized (
  select coherence.mark() as mark
    from gate
   where gate.state = 'open'
     and (exists (select from shop.products p where p.id = $4::int4) or not exists (select from shop.products))
),
question as (
  insert into shop.questions (product_id, body, date, asker_name, asker_email, reported, helpfulness)
  select $4::int4, $5::text, date_trunc('milliseconds', now()), $6::text, $7::text, false, 0
    from admitted
   where admitted.mark is not null
  returning id, product_id, date
),
-- The row is there or is not for all of this transaction: sql/schema/05_ranks.sql.
ranked as (
  insert into shop.question_ranks (date, question_id, product_id, helpfulness, reported)
  select question.date, question.id, question.product_id, 0, false
    from question
   where exists (select from shop.ranked_products p where p.list = 'questions' and p.product_id = $4::int4)
),
created as (
  select '/qa/questions/' || question.id as location,
         array['product-' || question.product_id || '-questions'] as groups
    from question
),
told as (
  insert into coherence.outbox (slot, groups)
  select rotation.slot, created.groups
    from created, coherence.rotation
),

-- $4 question, $5 body, $6 name, $7 email, $8 photo URLs.
-- The mark precedes every change: the triggers for other programs' writes stay silent.
admitted as materialized (
  select q.id, q.product_id, coherence.mark() as mark
    from gate, shop.questions q
   where gate.state = 'open'
     and q.id = $4::int4
),
answer as (
  insert into shop.answers (question_id, product_id, body, date, answerer_name, answerer_email, reported, helpfulness)
  select admitted.id, admitted.product_id, $5::text, date_trunc('milliseconds', now()), $6::text, $7::text, false, 0
    from admitted
   where admitted.mark is not null
  returning id, question_id, product_id
),
photo as (
  insert into shop.answer_photos (answer_id, question_id, product_id, url)
  select answer.id, answer.question_id, answer.product_id, sent.url
    from answer, unnest($8::text[]) with ordinality as sent (url, position)
   order by sent.position
),
created as (
  select '/qa/answers/' || answer.id as location,
         array['question-' || answer.question_id || '-answers', 'product-' || answer.product_id || '-questions'] as groups
    from answer
),
told as (
  insert into coherence.outbox (slot, groups)
  select rotation.slot, created.groups
    from created, coherence.rotation
),

-- $4 product, $5 rating, $6 summary, $7 body, $8 recommend, $9 name, $10 email, $11 photo URLs,
-- $12 characteristics and $13 their votes.
-- The mark precedes every change: the triggers for other programs' writes stay silent.
admitted as materialized (
  select coherence.mark() as mark
    from gate
   where gate.state = 'open'
     and (exists (select from shop.products p where p.id = $4::int4) or not exists (select from shop.products))
),
review as (
  insert into shop.reviews (product_id, rating, date, summary, body, recommend, reported, reviewer_name, reviewer_email,
                            response, helpfulness)
  select $4::int4, $5::int4, date_trunc('milliseconds', now()), $6::text, $7::text, $8::bool, false, $9::text, $10::text,
         null, 0
    from admitted
   where admitted.mark is not null
  returning id, product_id, date
),
-- The row is there or is not for all of this transaction: sql/schema/05_ranks.sql.
ranked as (
  insert into shop.review_ranks (date, review_id, product_id, helpfulness, reported)
  select review.date, review.id, review.product_id, 0, false
    from review
   where exists (select from shop.ranked_products p where p.list = 'reviews' and p.product_id = $4::int4)
),
photo as (
  insert into shop.review_photos (review_id, product_id, url)
  select review.id, review.product_id, sent.url
    from review, unnest($11::text[]) with ordinality as sent (url, position)
   order by sent.position
),
vote as (
  insert into shop.characteristic_reviews (characteristic_id, review_id, product_id, value)
  select c.id, review.id, review.product_id, sent.value
    from review, unnest($12::int4[], $13::int2[]) as sent (id, value), shop.characteristics c
   where c.id = sent.id
     and c.product_id = $4::int4
  returning characteristic_id, value
),
counted as (
  insert into shop.review_meta as m (product_id, ratings, recommended_false, recommended_true)
  select review.product_id,
         array[($5::int4 = 1)::int4, ($5::int4 = 2)::int4, ($5::int4 = 3)::int4, ($5::int4 = 4)::int4, ($5::int4 = 5)::int4],
         (not $8::bool)::int4,
         $8::bool::int4
    from review
  on conflict (product_id) do update
     set ratings[$5::int4] = m.ratings[$5::int4] + 1,
         recommended_false = m.recommended_false + excluded.recommended_false,
         recommended_true = m.recommended_true + excluded.recommended_true,
         characteristic_sums = array(
           select kept.sum + coalesce(vote.value, 0)
             from unnest(m.characteristic_ids, m.characteristic_sums) with ordinality as kept (id, sum, position)
             left join vote on vote.characteristic_id = kept.id
            order by kept.position),
         characteristic_counts = array(
           select kept.count + (vote.value is not null)::int4
             from unnest(m.characteristic_ids, m.characteristic_counts) with ordinality as kept (id, count, position)
             left join vote on vote.characteristic_id = kept.id
            order by kept.position)
),
created as (
  select '/reviews/' || review.id as location,
         array['product-' || review.product_id || '-reviews', 'product-' || review.product_id || '-meta'] as groups
    from review
),
told as (
  insert into coherence.outbox (slot, groups)
  select rotation.slot, created.groups
    from created, coherence.rotation
),

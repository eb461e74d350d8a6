-- The ranks of their reviews, once after COPY; afterwards each write keeps them.
insert into review_ranks (date, review_id, product_id, helpfulness, reported)
select r.date, r.id, r.product_id, r.helpfulness, r.reported
  from reviews r
  join ranked_products p on p.list = 'reviews' and p.product_id = r.product_id
 order by r.product_id, r.id;

-- The ranks of their questions, once after COPY; afterwards each write keeps them.
insert into question_ranks (date, question_id, product_id, helpfulness, reported)
select q.date, q.id, q.product_id, q.helpfulness, q.reported
  from questions q
  join ranked_products p on p.list = 'questions' and p.product_id = q.product_id
 order by q.product_id, q.id;

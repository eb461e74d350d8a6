-- The popular products, once after COPY; afterwards service.rank_products() adds to them.
insert into ranked_products (list, product_id)
select 'reviews', product_id from review_sums group by product_id
having sum(rated_1 + rated_2 + rated_3 + rated_4 + rated_5) >= service.ranked_rows_min()
 order by product_id;
insert into ranked_products (list, product_id)
select 'questions', product_id from questions group by product_id having count(*) >= service.ranked_rows_min()
 order by product_id;

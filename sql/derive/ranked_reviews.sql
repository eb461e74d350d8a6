-- The products with many reviews, once after COPY; afterwards service.rank_products() adds to them. From sums/.
insert into ranked_products (list, product_id)
select 'reviews', product_id from review_sums group by product_id
having sum(rated_1 + rated_2 + rated_3 + rated_4 + rated_5) >= service.ranked_rows_min()
 order by product_id;

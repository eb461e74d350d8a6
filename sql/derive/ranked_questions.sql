-- The products with many questions, once after COPY; afterwards service.rank_products() adds to them.
insert into ranked_products (list, product_id)
select 'questions', product_id from questions group by product_id having count(*) >= service.ranked_rows_min()
 order by product_id;

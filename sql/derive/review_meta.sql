-- The counts of every product, once after COPY; afterwards each write keeps its own row. From sums/. The last join, a merge
-- in a load, gives them in order of products.
insert into review_meta (product_id, ratings, recommended_false, recommended_true,
                         characteristic_ids, characteristic_names, characteristic_sums, characteristic_counts)
with counted as (
  select product_id,
         array[sum(rated_1), sum(rated_2), sum(rated_3), sum(rated_4), sum(rated_5)]::integer[] as ratings,
         sum(recommended_false)::integer as recommended_false,
         sum(recommended_true)::integer as recommended_true
    from review_sums
   group by product_id
),
voted as (
  select characteristic_id, sum(sum)::bigint as sum, sum(count)::integer as count
    from vote_sums
   group by characteristic_id
),
described as (
  -- Sorted once for all: an aggregate with an order of its own sorts the few rows of each product again.
  select product_id,
         array_agg(id) as ids,
         array_agg(name) as names,
         array_agg(sum) as sums,
         array_agg(count) as counts
    from (select c.product_id, c.id, c.name, coalesce(v.sum, 0) as sum, coalesce(v.count, 0) as count
            from characteristics c
            left join voted v on v.characteristic_id = c.id
           order by c.product_id, c.id) as sorted
   group by product_id
)
select product_id,
       coalesce(counted.ratings, '{0,0,0,0,0}'),
       coalesce(counted.recommended_false, 0),
       coalesce(counted.recommended_true, 0),
       coalesce(described.ids, '{}'),
       coalesce(described.names, '{}'),
       coalesce(described.sums, '{}'),
       coalesce(described.counts, '{}')
  from counted
  full join described using (product_id);

-- The counts of every product, once after COPY; afterwards each write keeps its own row.
insert into review_meta (product_id, ratings, recommended_false, recommended_true,
                         characteristic_ids, characteristic_names, characteristic_sums, characteristic_counts)
with counted as (
  select product_id,
         array[count(*) filter (where rating = 1), count(*) filter (where rating = 2),
               count(*) filter (where rating = 3), count(*) filter (where rating = 4),
               count(*) filter (where rating = 5)]::integer[] as ratings,
         (count(*) filter (where not recommend))::integer as recommended_false,
         (count(*) filter (where recommend))::integer as recommended_true
    from reviews
   group by product_id
),
voted as (
  select characteristic_id, sum(value) as sum, count(*)::integer as count
    from characteristic_reviews
   group by characteristic_id
),
described as (
  -- Sorted once for all: an aggregate with an order of its own sorts the few rows of each product again.
  select product_id,
         array_agg(id) as ids,
         array_agg(name) as names,
         array_agg(sum) as sums,
         array_agg(count) as counts
    from (select c.product_id, c.id, c.name, coalesce(v.sum, 0)::bigint as sum, coalesce(v.count, 0) as count
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
  full join described using (product_id)
 order by product_id;

-- What each vote adds to its characteristic. A load has a table in the place of this view, of several votes a row, which
-- the loader has added up while it read them.
create temporary view vote_sums as
select characteristic_id,
       value::bigint as sum,
       1 as count
  from characteristic_reviews;

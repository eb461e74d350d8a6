-- What each review adds to the counts of its product. A load has a table in the place of this view, of several reviews
-- a row, which the loader has added up while it read them.
create temporary view review_sums as
select product_id,
       (rating = 1)::integer as rated_1,
       (rating = 2)::integer as rated_2,
       (rating = 3)::integer as rated_3,
       (rating = 4)::integer as rated_4,
       (rating = 5)::integer as rated_5,
       (not recommend)::integer as recommended_false,
       recommend::integer as recommended_true
  from reviews;

-- How many products there are in each run of ids, once after COPY; afterwards a trigger keeps it.
insert into product_counts (run, count)
select id / 1024, count(*)::integer
  from products
 group by id / 1024
 order by id / 1024;

-- What the order of a popular product's pages needs, and nothing else: the rest of a page is looked up by id. A product
-- is popular from service.ranked_rows_min() rows on; the others have no rows here, as all of theirs are read and sorted
-- for less. These tables, and not those of the rows, pay for indexes on counters.

-- The lists ('reviews', 'questions') of which the ranks are kept. A product comes in only while nobody writes to the
-- list's table, so that whoever writes sees it either for the whole transaction or not at all; it never leaves.
create table ranked_products (
  list       text    not null,
  product_id integer not null,
  constraint ranked_products_list_check check (list in ('reviews', 'questions'))
);

-- One row for each review of such a product, reported ones too: the row is there for as long as the review is, and a
-- vote that waited for another change of the review finds it.
create table review_ranks (
  date        timestamptz not null,
  review_id   integer     not null,
  product_id  integer     not null,
  helpfulness integer     not null,
  reported    boolean     not null
) with (fillfactor = 90);

create table question_ranks (
  date        timestamptz not null,
  question_id integer     not null,
  product_id  integer     not null,
  helpfulness integer     not null,
  reported    boolean     not null
) with (fillfactor = 90);

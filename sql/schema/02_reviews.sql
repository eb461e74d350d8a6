-- Ratings and reviews. The free space left in each page keeps a helpful vote a heap-only update: no index names a
-- counter, and the new row version fits beside the old one.

create table reviews (
  id             integer     not null,
  product_id     integer     not null,
  rating         smallint    not null,
  date           timestamptz not null,
  summary        text        not null,
  body           text        not null,
  recommend      boolean     not null,
  reported       boolean     not null,
  reviewer_name  text        not null,
  reviewer_email text        not null,
  response       text,
  helpfulness    integer     not null,
  constraint reviews_id_check check (id > 0),
  constraint reviews_rating_check check (rating between 1 and 5),
  constraint reviews_helpfulness_check check (helpfulness >= 0)
) with (fillfactor = 90);

create table review_photos (
  id         integer not null,
  review_id  integer not null,
  product_id integer not null,
  url        text    not null,
  constraint review_photos_id_check check (id > 0)
);

create table characteristics (
  id         integer not null,
  product_id integer not null,
  name       text    not null,
  constraint characteristics_id_check check (id > 0)
);

create table characteristic_reviews (
  id                integer  not null,
  characteristic_id integer  not null,
  review_id         integer  not null,
  product_id        integer  not null,
  value             smallint not null,
  constraint characteristic_reviews_id_check check (id > 0),
  constraint characteristic_reviews_value_check check (value between 1 and 5)
);

-- One row a product, kept by the transaction that changes what it counts; reported reviews count. ratings[r] is the
-- number of reviews with rating r. The four characteristic arrays run side by side, ascending by id, so that a page
-- is one row: id, name, sum of the votes, number of votes.
create table review_meta (
  product_id            integer  not null,
  ratings               integer[] not null default '{0,0,0,0,0}',
  recommended_false     integer  not null default 0,
  recommended_true      integer  not null default 0,
  characteristic_ids    integer[] not null default '{}',
  characteristic_names  text[]   not null default '{}',
  characteristic_sums   bigint[] not null default '{}',
  characteristic_counts integer[] not null default '{}',
  constraint review_meta_ratings_check check (cardinality(ratings) = 5 and 0 <= all (ratings)),
  constraint review_meta_characteristics_check check (
        cardinality(characteristic_ids) = cardinality(characteristic_names)
    and cardinality(characteristic_ids) = cardinality(characteristic_sums)
    and cardinality(characteristic_ids) = cardinality(characteristic_counts))
) with (fillfactor = 80);

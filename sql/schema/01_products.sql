-- The catalogue. Applied to an empty schema (the search path names it), before COPY.
-- Every table that belongs to a product carries product_id, so that a page's rows are found by one index and the
-- schema can be distributed on that column.

create table products (
  id            integer       not null,
  name          text          not null,
  slogan        text          not null,
  description   text          not null,
  category      text          not null,
  default_price numeric(12,2) not null,
  created_at    timestamptz   not null default date_trunc('milliseconds', now()),
  updated_at    timestamptz   not null default date_trunc('milliseconds', now()),
  constraint products_id_check check (id > 0),
  constraint products_default_price_check check (default_price >= 0)
);

-- How many products there are in each run of 1,024 ids. GET /products finds the first id of a deep page here, and counts
-- its way through the key's index within one run only.
create table product_counts (
  run   integer not null,  -- id / 1024
  count integer not null,
  constraint product_counts_count_check check (count >= 0)
);

create table features (
  id         integer not null,
  product_id integer not null,
  feature    text    not null,
  value      text,
  constraint features_id_check check (id > 0)
);

create table styles (
  id             integer       not null,
  product_id     integer       not null,
  name           text          not null,
  sale_price     numeric(12,2),
  original_price numeric(12,2) not null,
  is_default     boolean       not null,
  constraint styles_id_check check (id > 0),
  constraint styles_sale_price_check check (sale_price > 0),
  constraint styles_original_price_check check (original_price >= 0)
);

create table skus (
  id         integer not null,
  style_id   integer not null,
  product_id integer not null,
  size       text    not null,
  quantity   integer not null,
  constraint skus_id_check check (id > 0),
  constraint skus_quantity_check check (quantity >= 0)
);

create table photos (
  id            integer not null,
  style_id      integer not null,
  product_id    integer not null,
  url           text,
  thumbnail_url text,
  constraint photos_id_check check (id > 0)
);

-- related_exists says whether related_id is a product. It is kept, not looked up at each read: four or five look-ups
-- would cost three times what the row itself costs.
create table related (
  id             integer not null,
  product_id     integer not null,
  related_id     integer not null,
  related_exists boolean not null,
  constraint related_id_check check (id > 0)
);

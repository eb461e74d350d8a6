-- What the service itself keeps: never replaced by a load of the shop's tables.

create schema service;

-- Carts: only a digest of the identity is stored (SHA-256 of the token). No reference to shop.skus: a load replaces that table.
create table service.cart_items (
  identity   bytea       not null,
  sku_id     integer     not null,
  count      integer     not null,
  updated_at timestamptz not null default now(),
  constraint cart_items_pkey primary key (identity, sku_id),
  constraint cart_items_identity_check check (octet_length(identity) = 32),
  constraint cart_items_count_check check (count between 1 and 1000000)
) with (fillfactor = 90);

create table service.interactions (
  id         bigint      generated always as identity,
  element    text        not null,
  widget     text        not null,
  time       text        not null,
  created_at timestamptz not null default now(),
  constraint interactions_pkey primary key (id)
);
-- Removal of old interactions, in batches.
create index interactions_created_at_idx on service.interactions using brin (created_at);

-- One row a used Idempotency-Key, written by the transaction of the write it names. scope is SHA-256 over path, key and
-- identity; digest is SHA-256 of the request body. groups and location repeat what the first answer said.
create table service.idempotency_keys (
  scope      bytea       not null,
  digest     bytea       not null,
  status     smallint    not null,
  location   text,
  groups     text[]      not null,
  created_at timestamptz not null default now(),
  constraint idempotency_keys_pkey primary key (scope),
  constraint idempotency_keys_scope_check check (octet_length(scope) = 32),
  constraint idempotency_keys_digest_check check (octet_length(digest) = 32)
);
-- Removal of expired keys, in batches.
create index idempotency_keys_created_at_idx on service.idempotency_keys (created_at);

-- One row a finished load, written by the transaction that put its tables in place. report is the loader's JSON report.
create table service.loads (
  id          bigint      generated always as identity,
  finished_at timestamptz not null default now(),
  report      jsonb       not null,
  constraint loads_pkey primary key (id)
);

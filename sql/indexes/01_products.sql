-- Keys and indexes of the catalogue, built after COPY. The loader runs each statement on its own, several at once.

alter table products add constraint products_pkey primary key (id);
alter table product_counts add constraint product_counts_pkey primary key (run);
alter table features add constraint features_pkey primary key (id);
alter table styles add constraint styles_pkey primary key (id);
alter table skus add constraint skus_pkey primary key (id);
alter table photos add constraint photos_pkey primary key (id);
alter table related add constraint related_pkey primary key (id);
alter table ranked_products add constraint ranked_products_pkey primary key (list, product_id);

-- GET /products/{id}: the features of one product.
create index features_product_id_idx on features (product_id);
-- GET /products/{id}/styles: the styles, photos and skus of one product, each by one look-up.
create index styles_product_id_idx on styles (product_id);
create index skus_product_id_idx on skus (product_id);
create index photos_product_id_idx on photos (product_id);
-- GET /products/{id}/related: the related ids of one product.
create index related_product_id_idx on related (product_id);
-- Maintenance of related.related_exists when a product is added or removed.
create index related_related_id_idx on related (related_id);
-- Removal of a style: its children (the foreign keys below).
create index skus_style_id_idx on skus (style_id);
create index photos_style_id_idx on photos (style_id);

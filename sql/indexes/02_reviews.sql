-- Keys and indexes of reviews, built after COPY. No index names helpfulness: a vote stays a heap-only update.

alter table reviews add constraint reviews_pkey primary key (id);
alter table review_photos add constraint review_photos_pkey primary key (id);
alter table characteristics add constraint characteristics_pkey primary key (id);
alter table characteristic_reviews add constraint characteristic_reviews_pkey primary key (id);
alter table review_meta add constraint review_meta_pkey primary key (product_id);

-- GET /reviews: the reviews of one product; all three orders sort the few rows found.
create index reviews_product_id_idx on reviews (product_id);
-- GET /reviews: the photos of the reviews of one product.
create index review_photos_product_id_idx on review_photos (product_id);
-- Removal of a review, a characteristic or a product's characteristics: their children.
create index review_photos_review_id_idx on review_photos (review_id);
create index characteristics_product_id_idx on characteristics (product_id);
create index characteristic_reviews_review_id_idx on characteristic_reviews (review_id);
create index characteristic_reviews_characteristic_id_idx on characteristic_reviews (characteristic_id);

-- Keys and indexes of reviews, built after COPY. No index of a row names helpfulness: a vote stays a
-- heap-only update, of the row.

alter table reviews add constraint reviews_pkey primary key (id);
alter table review_photos add constraint review_photos_pkey primary key (id);
alter table characteristics add constraint characteristics_pkey primary key (id);
alter table characteristic_reviews add constraint characteristic_reviews_pkey primary key (id);
alter table review_meta add constraint review_meta_pkey primary key (product_id);
alter table review_ranks add constraint review_ranks_pkey primary key (review_id);

-- GET /reviews of a popular product: the ids of a page in each of the three orders, without their rows.
create index review_ranks_product_id_date_review_id_idx on review_ranks (product_id, date desc, review_id desc) where not reported;
create index review_ranks_product_id_helpfulness_review_id_idx on review_ranks (product_id, helpfulness desc, review_id desc) where not reported;
create index review_ranks_product_id_helpfulness_date_review_id_idx on review_ranks (product_id, helpfulness desc, date desc, review_id desc) where not reported;
-- GET /reviews of any other: its reviews; all three orders sort the few rows found.
create index reviews_product_id_idx on reviews (product_id);
-- GET /reviews: the photos of the reviews of one product, all in one look-up.
create index review_photos_product_id_idx on review_photos (product_id);
-- GET /reviews of a popular product: the photos of each review of the page.
-- Removal of a review, a characteristic or a product's characteristics: their children.
create index review_photos_review_id_idx on review_photos (review_id);
create index characteristics_product_id_idx on characteristics (product_id);
create index characteristic_reviews_review_id_idx on characteristic_reviews (review_id);
create index characteristic_reviews_characteristic_id_idx on characteristic_reviews (characteristic_id);

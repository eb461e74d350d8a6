-- Ids of rows that are added later. The loader sets each sequence past the largest id it loaded.

create sequence products_id_seq as integer owned by products.id;
create sequence features_id_seq as integer owned by features.id;
create sequence styles_id_seq as integer owned by styles.id;
create sequence skus_id_seq as integer owned by skus.id;
create sequence photos_id_seq as integer owned by photos.id;
create sequence related_id_seq as integer owned by related.id;
create sequence reviews_id_seq as integer owned by reviews.id;
create sequence review_photos_id_seq as integer owned by review_photos.id;
create sequence characteristics_id_seq as integer owned by characteristics.id;
create sequence characteristic_reviews_id_seq as integer owned by characteristic_reviews.id;
create sequence questions_id_seq as integer owned by questions.id;
create sequence answers_id_seq as integer owned by answers.id;
create sequence answer_photos_id_seq as integer owned by answer_photos.id;

alter table products alter column id set default nextval('products_id_seq');
alter table features alter column id set default nextval('features_id_seq');
alter table styles alter column id set default nextval('styles_id_seq');
alter table skus alter column id set default nextval('skus_id_seq');
alter table photos alter column id set default nextval('photos_id_seq');
alter table related alter column id set default nextval('related_id_seq');
alter table reviews alter column id set default nextval('reviews_id_seq');
alter table review_photos alter column id set default nextval('review_photos_id_seq');
alter table characteristics alter column id set default nextval('characteristics_id_seq');
alter table characteristic_reviews alter column id set default nextval('characteristic_reviews_id_seq');
alter table questions alter column id set default nextval('questions_id_seq');
alter table answers alter column id set default nextval('answers_id_seq');
alter table answer_photos alter column id set default nextval('answer_photos_id_seq');
